"""The file of `--config`, which is read before the arguments are parsed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from keras_peft.errors import OptionError, did_you_mean, listed

FLAG = "--config"
# Flags that may name a file or a folder.
_PATHS = ("data", "validation", "unlabelled", "base")


def read(arguments: Sequence[str]) -> dict[str, Any]:
    """Reads the file given with `--config`.

    Args:
        arguments: Command-line arguments, without the program's name.

    Returns:
        Values by the names of the command's parameters; empty without `--config`.

    Raises:
        OptionError: If the file does not exist or is not valid TOML.
    """
    named = [after for argument, after in pairwise(arguments) if argument == FLAG]
    named += [one.removeprefix(f"{FLAG}=") for one in arguments if one.startswith(f"{FLAG}=")]
    if not named:
        return {}
    path = Path(named[-1])
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"{FLAG} {path}: {error.strerror}; expected a .toml file with flags.") from None
    except ValueError as error:
        raise OptionError(f"{FLAG} {path} is not valid TOML: {error}.") from None
    values = {key.replace("-", "_"): value for key, value in content.items()}
    return {name: _located(value, path.parent) if name in _PATHS else value for name, value in values.items()}


def _located(value: Any, folder: Path) -> Any:
    """Returns a path as seen from the working directory; the file names it as seen from its own folder."""
    if not isinstance(value, str) or Path(value).is_absolute() or not (folder / value).exists():
        return value
    return str(folder / value)


def check(values: dict[str, Any], known: Iterable[str]) -> None:
    """Checks that a file's keys are flags of the command and its values are scalars.

    Args:
        values: Values by the names of the command's parameters.
        known: Names of the command's parameters.

    Raises:
        OptionError: If a key is unknown or a value is a table or a list; the message lists all.
    """
    names = [name.replace("_", "-") for name in known]
    wrong = [key.replace("_", "-") for key in values if key.replace("_", "-") not in names]
    if wrong:
        hints = "".join(did_you_mean(key, names) for key in wrong)
        raise OptionError(
            f"{FLAG}: unknown flags: {listed(wrong)}.{hints} Expected one of {', '.join(names)}."
        )
    if nested := [key for key, value in values.items() if isinstance(value, dict | list)]:
        raise OptionError(f"{FLAG}: {listed(nested)}: expected a word, a number, true or false.")
