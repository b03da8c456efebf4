"""The file of `--config`, which is read before the arguments are parsed."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_peft.errors import OptionError, did_you_mean, listed
from keras_peft.toml_files import TomlError, read_table

FLAG = "--config"
# Flags that may name files or folders.
_PATHS = ("data", "validation", "test", "unlabelled", "space", "base", "bundles", "keys")
# Parameters with another name than their flag.
_RENAMED = {"json": "as_json"}


def parameter(example: str) -> inspect.Parameter:
    """Returns the flag `--config` of a command.

    Args:
        example: What the file may be, for the help.
    """
    help = f"A .toml file with values for these flags, such as {example}; flags given here take precedence."
    return inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, typer.Option(help=help)],
    )


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
        content = read_table(path)
    except OSError as error:
        raise OptionError(f"{FLAG} {path}: {error.strerror}; expected a .toml file with flags.") from None
    except TomlError as error:
        raise OptionError(f"{FLAG} {path} {error}; expected flags and their values.") from None
    values = {_RENAMED.get(key, key.replace("-", "_")): value for key, value in content.items()}
    return {name: _located(value, path.parent) if name in _PATHS else value for name, value in values.items()}


def _located(value: Any, folder: Path) -> Any:
    """Returns a path as seen from the working directory; the file names it as seen from its own folder."""
    if isinstance(value, list):
        return [_located(one, folder) for one in value]
    if not isinstance(value, str) or Path(value).is_absolute():
        return value
    try:
        return str(folder / value) if (folder / value).exists() else value
    except (OSError, ValueError):  # Too long for a path, or with a zero byte; the command refuses it.
        return value


def check(
    values: Mapping[str, Any], parameters: Iterable[inspect.Parameter], *, also: Iterable[str] = ()
) -> None:
    """Checks that a file's keys are flags of the command, with values of their types.

    Args:
        values: Values by the names of the command's parameters.
        parameters: Parameters of the command.
        also: Names that the file may contain although the command has no such flags.

    Raises:
        OptionError: If a key is unknown or a value has the wrong type; the message lists all.
    """
    kinds = {one.name: _kinds(one.annotation) for one in parameters if one.name != "config"}
    names = [_shown(name) for name in [*kinds, *also]]
    wrong = [_shown(key) for key in values if _shown(key) not in names]
    if wrong:
        hints = "".join(did_you_mean(key, names) for key in wrong)
        raise OptionError(
            f"{FLAG}: unknown flags: {listed(wrong)}.{hints} Expected one of {', '.join(names)}."
        )
    problems = [
        f"{_shown(key)}: expected {expected}."
        for key, value in values.items()
        if (expected := _unmet(value, kinds.get(key, ())))
    ]
    if problems:
        raise OptionError(f"{FLAG}: {' '.join(problems)}")


def _shown(parameter: str) -> str:
    """Returns the name of a parameter in the file."""
    flags = {own: flag for flag, own in _RENAMED.items()}
    return flags.get(parameter, parameter).replace("_", "-")


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """Returns the types of `Annotated[X | Y, …]`, or `(list,)` for a flag that can be repeated."""
    kind = typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation
    return (list,) if typing.get_origin(kind) is list else typing.get_args(kind) or (kind,)


def _unmet(value: Any, kinds: tuple[Any, ...]) -> str:
    """Returns what was expected instead of a value, or an empty string if it fits."""
    if list in kinds:
        is_list = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return "" if is_list else 'a list of words, such as ["one", "two"]'
    if isinstance(value, dict | list):
        return "a word, a number, true or false"
    # Otherwise true would be the number 1, and 2.5 the number 2.
    if isinstance(value, bool) and {int, float} & set(kinds) and bool not in kinds:
        return "a number"
    if kinds == (bool,) and not isinstance(value, bool):
        return "true or false"
    if isinstance(value, float) and int in kinds and float not in kinds:
        return "a whole number"
    return ""
