"""Files of search spaces: their format, and the check of all they contain.

learning_rate = { low = 5e-4, high = 1e-2, log = true }
batch_size = { values = [8, 16, 32] }
rank = { values = [4, 8, 16] }         # only for methods with this option

[method.lora]                          # the methods to choose from
[method.bitfit]
learning_rate = { low = 1e-3, high = 3e-2, log = true }
"""

from __future__ import annotations

import math
import tomllib
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from keras_peft import methods
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.errors import OptionError, did_you_mean, listed
from keras_peft.sweeping.space import (
    DEFAULT,
    Parameter,
    Space,
    names_of_options,
    names_of_settings,
    stored_form,
)
from keras_peft.training.settings import Settings

_SPACES = "keras_peft.sweeping.spaces"
_KEYS = ("values", "low", "high", "log", "step")
_EXAMPLE = "{ values = [4, 8] } or { low = 1e-4, high = 1e-2, log = true }"
# A space is written by hand. Everything is bounded before it is used.
_MOST_BYTES, _MOST_VALUES, _MOST_PARAMETERS, _MOST_FAULTS = 1_000_000, 100, 100, 20
_LARGEST = 2**53

# Settings that no trial may vary, and why.
_ROWS = "changes the rows or their labels, so the scores of trials could not be compared"
_UNVARIED = {
    **{one.name: _ROWS for one in fields(ReadingOptions)},
    "task": _ROWS,
    "skip_bad_rows": _ROWS,
    "validation": "changes what is scored, so the scores of trials could not be compared",
    "abstain_below": "is chosen after the training and has no effect on the score",
}


def shipped() -> list[str]:
    """Returns the names of the spaces that ship with the package, sorted."""
    found = (Path(one.name) for one in resources.files(_SPACES).iterdir())
    return sorted(one.stem.replace("_", "-") for one in found if one.suffix == ".toml")


def read_space(space: str | Path | Mapping[str, Any], method: str) -> Space:
    """Reads and checks a space.

    Args:
        space: A .toml file, the name of a space that ships with the package, or the content of a file.
        method: The method, if the space does not vary it.

    Returns:
        The space.

    Raises:
        OptionError: If it cannot be read or contains something that cannot be varied; the message lists all faults.

    Example:
        >>> read_space({"rank": {"values": [4, 8]}}, "lora").parameters[0].values
        (4, 8)
    """
    if isinstance(space, Mapping):
        return _checked(space, "`space`", method)
    if isinstance(space, str) and space in shipped():
        file = resources.files(_SPACES) / f"{space.replace('-', '_')}.toml"
        return _checked(tomllib.loads(file.read_text(encoding="utf-8")), f"The space {space}", method)
    return _checked(_read(Path(space)), str(space), method)


def _read(path: Path) -> dict[str, Any]:
    """Reads a .toml file."""
    expected = f"expected a .toml file, or one of {', '.join(shipped())}"
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise OptionError(f"`space`: {path} has more than {_MOST_BYTES:,} bytes; {expected}.")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        hint = did_you_mean(str(path), shipped())
        raise OptionError(f"`space`: {path}: {error.strerror}; {expected}.{hint}") from None
    except RecursionError:
        raise OptionError(f"`space`: {path} is nested too deeply; {expected}.") from None
    except ValueError as error:  # Also a zero byte in the path, and text that is not UTF-8.
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"`space`: {path} is not valid TOML: {error}.") from None


def _checked(content: Mapping[str, Any], source: str, method: str) -> Space:
    """Checks the content of a file, and returns the space."""
    faults: list[str] = []
    content = dict(content)
    own = _methods_in(content.pop("method", {}), faults)
    chosen = tuple(own) or (method,)
    parameters = [
        *_parameters(content, None, chosen, faults),
        *(
            one
            for name, lines in own.items()
            if name in methods.names()
            for one in _parameters(lines, name, (name,), faults)
        ),
    ]
    if len(parameters) > _MOST_PARAMETERS:
        faults.append(f"it varies {len(parameters)} parameters; at most {_MOST_PARAMETERS} are allowed.")
    if not faults and not parameters and len(own) < 2:
        faults.append(f"it varies nothing; expected lines such as rank = {_EXAMPLE}.")
    if faults:
        more = [f"And {len(faults) - _MOST_FAULTS} more faults."] if len(faults) > _MOST_FAULTS else []
        raise OptionError(f"{source}: {' '.join([*faults[:_MOST_FAULTS], *more])}")
    return Space(source, tuple(own), tuple(parameters))


def _methods_in(given: Any, faults: list[str]) -> dict[str, Mapping[str, Any]]:
    """Returns the lines of each method."""
    if isinstance(given, list):
        given = {one if isinstance(one, str) else repr(one): {} for one in given}
    if not isinstance(given, Mapping):
        faults.append(
            f"method is {_shown(given)}; expected a list of names, or tables such as [method.lora]."
        )
        return {}
    known = methods.names()
    for name, lines in given.items():
        if name not in known:
            faults.append(f"there is no method {_shown(name)}.{did_you_mean(str(name), known)}")
        elif not isinstance(lines, Mapping):
            faults.append(f"method.{name} is {_shown(lines)}; expected a table [method.{name}].")
    return {
        str(name): lines if isinstance(lines, Mapping) else {}
        for name, lines in given.items()
        if name in known
    }


def _parameters(
    lines: Mapping[str, Any], method: str | None, chosen: tuple[str, ...], faults: list[str]
) -> Iterator[Parameter]:
    """Checks the lines for some methods, and yields the parameters."""
    options = {name for one in chosen if one in methods.names() for name in names_of_options(one)}
    known = [*options, *(name for name in names_of_settings() if name not in _UNVARIED)]
    for name, line in lines.items():
        label = name if method is None else f"method.{method}.{name}"
        if name in _UNVARIED:
            faults.append(f"{label} {_UNVARIED[name]}; remove it.")
        elif name not in known:
            whose = f"an option of {listed(chosen, most=3)}" if options else "a setting"
            neither = f"neither a setting nor {whose}" if options else "not a setting"
            faults.append(f"{_shown(label)} is {neither}.{did_you_mean(str(name), known)}")
        elif found := _faults_of(line):
            faults.append(f"{label} {found}")
        else:
            parameter = _parameter(name, method, line, options)
            before = len(faults)
            faults.extend(_refused(parameter, label, chosen, options))
            if len(faults) == before:
                yield parameter


def _faults_of(line: Any) -> str:
    """Returns the problem of a line's form, or an empty string."""
    if not isinstance(line, Mapping):
        return f"is {_shown(line)}; expected {_EXAMPLE}."
    if unknown := [key for key in line if key not in _KEYS]:
        hints = "".join(did_you_mean(str(key), _KEYS) for key in unknown)
        return f"has the key {_shown(unknown[0])}; expected {_EXAMPLE}.{hints}"
    if "values" in line:
        values = line["values"]
        if len(line) > 1:
            return (
                f"has both values and {next(key for key in line if key != 'values')}; expected one of them."
            )
        if not isinstance(values, list | tuple) or not values:
            return f"has the values {_shown(values)}; expected a list such as [4, 8]."
        if len(values) > _MOST_VALUES:
            return f"has {len(values)} values; expected at most {_MOST_VALUES}."
        plain = [(type(one), stored_form(one)) for one in values]
        if len(set(map(str, plain))) < len(plain):
            return f"has a value twice in {_shown(list(values))}; remove one."
        return ""
    return _faults_of_range(line)


def _faults_of_range(line: Mapping[str, Any]) -> str:
    """Returns the problem of a range, or an empty string."""
    if missing := [key for key in ("low", "high") if key not in line]:
        return f"has no {missing[0]}; expected {_EXAMPLE}."
    for key in ("low", "high", "step"):
        if key in line and not _is_number(line[key]):
            return f"has the {key} {_shown(line[key])}; expected a number."
    if not isinstance(line.get("log", False), bool):
        return f"has the log {_shown(line['log'])}; expected true or false."
    if not line["low"] < line["high"]:
        return f"has the low {line['low']!r} and the high {line['high']!r}; expected a higher high."
    if line.get("log") and not line["low"] > 0:
        return f"has the low {line['low']!r}, and log = true; expected a low above 0."
    if line.get("log") and "step" in line:
        return "has both log and step; expected one of them."
    if "step" in line and not 0 < line["step"] <= line["high"] - line["low"]:
        return f"has the step {line['step']!r}; expected a step above 0, up to high - low."
    return ""


def _parameter(name: str, method: str | None, line: Mapping[str, Any], options: Collection[str]) -> Parameter:
    """Returns the parameter of a line whose form is right."""
    if "values" in line:
        values = tuple(tuple(one) if isinstance(one, list) else one for one in line["values"])
        return Parameter(name, method, values)
    numbers = {key: line[key] for key in ("low", "high", "step") if key in line}
    whole = all(isinstance(one, int) for one in numbers.values())
    return Parameter(name, method, None, log=bool(line.get("log", False)), whole=whole, **numbers)


def _refused(
    parameter: Parameter, label: str, chosen: tuple[str, ...], options: Collection[str]
) -> Iterator[str]:
    """Yields why the settings or the methods refuse values of a parameter."""
    if parameter.values is None:
        kinds = _kinds(parameter.name, chosen, options)
        if not {int, float} & kinds:
            yield f"{label} is not a number; expected {{ values = […] }}."
            return
        if float not in kinds and not parameter.whole:
            yield f"{label} is a whole number; expected whole numbers as low, high and step."
            return
        values: tuple[Any, ...] = (parameter.low, parameter.high)
    else:
        values = tuple(one for one in parameter.values if one != DEFAULT or not isinstance(one, str))
    owners = [one for one in chosen if parameter.name in names_of_options(one)] if options else []
    for value in values:
        try:
            if parameter.name in options:
                for owner in owners:
                    methods.find(owner).from_options({parameter.name: value})
            else:
                Settings(**{parameter.name: value})
        except (OptionError, TypeError) as error:
            yield (
                f"{label}: {error}"
                if isinstance(error, OptionError)
                else f"{label}: {_shown(value)} cannot be used."
            )


def _kinds(name: str, chosen: tuple[str, ...], options: Collection[str]) -> set[Any]:
    """Returns the types of a setting or option."""
    owners: list[type] = [Settings]
    if name in options:
        owners = [methods.find(one) for one in chosen if name in names_of_options(one)]
    kinds: set[Any] = set()
    for owner in owners:
        kind = typing.get_type_hints(owner)[name]
        kinds |= set(typing.get_args(kind) or (kind,))
    return kinds


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and abs(value) <= _LARGEST


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
