"""The types of fields in files that strangers may have written, and the check of a file against them.

Import this module where a file is read, since it imports msgspec.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

# More problems are only counted.
_MOST_PROBLEMS = 20
_MOST_SHOWN = 60

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
"""A name, of a label, a column or a layer."""
Names = Annotated[list[Name], msgspec.Meta(max_length=100_000)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
"""A number of things, such as a rank or the tokens of a text."""


class Selection(msgspec.Struct):
    """The layers that a method attaches to; see `core.selection.Selection`."""

    targets: Annotated[list[Name], msgspec.Meta(max_length=1_000)]
    layers: (
        Annotated[str, msgspec.Meta(max_length=1_000)] | Annotated[list[int], msgspec.Meta(max_length=1_000)]
    )


class Method(msgspec.Struct):
    """The name of a method. Its class checks its options."""

    name: Name


class Part(msgspec.Struct):
    """A method of an adapter; see `core.placement.Placement`."""

    method: Method
    selection: Selection


Parts = Annotated[list[Part], msgspec.Meta(min_length=1, max_length=1_000)]
"""The methods of an adapter."""


class AdapterFile(msgspec.Struct):
    """The adapter.json of a saved adapter."""

    parts: Parts
    head: bool
    sha256: str


class PartsOnly(msgspec.Struct):
    """The methods of an adapter, wherever they are written."""

    parts: Parts


def problems_with(content: Mapping[str, Any], schema: type[msgspec.Struct], file: str) -> list[str]:
    """Checks the fields of a file.

    Args:
        content: Its content, from `json_files.read_object`.
        schema: The fields and their types. Other fields are ignored.
        file: Name of the file.

    Returns:
        All problems, such as "bundle.json: max_length is -1, expected int >= 1"; past the twentieth, their number.

    Example:
        >>> problems_with({"parts": [], "head": True}, AdapterFile, "adapter.json")
        ['adapter.json: parts is [], expected list of length >= 1', 'adapter.json: sha256 is missing, expected str']
    """
    found = [f"{file}: {problem}" for problem in _problems(content, schema, "")]
    if len(found) > _MOST_PROBLEMS:
        return [*found[:_MOST_PROBLEMS], f"{file}: {len(found) - _MOST_PROBLEMS} more problems"]
    return found


def _problems(value: Any, kind: Any, path: str) -> Iterator[str]:
    """Finds the problems of a value: of each field of an object, and of each object in a list."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(value, Mapping):
            yield f"{path} is {_shown(value)}, expected object"
            return
        for name, own, is_needed in _fields(kind):
            inner = f"{path}.{name}" if path else name
            if name in value:
                yield from _problems(value[name], own, inner)
            elif is_needed:
                yield f"{inner} is missing, expected {_expected(None, own)[1]}"
        return
    if item := _struct_in(kind):
        outer = Annotated[list[Any], *kind.__metadata__]
        if message := _mismatch(value, outer, path):
            yield message
            return
        for number, one in enumerate(value):
            yield from _problems(one, item, f"{path}[{number}]")
    elif message := _mismatch(value, kind, path):
        yield message


def _fields(kind: type[msgspec.Struct]) -> list[tuple[str, Any, bool]]:
    """Returns the name and type of each field, and whether it has no default."""
    return [
        (field.encode_name, field.type, field.default is msgspec.NODEFAULT)
        for field in msgspec.structs.fields(kind)
    ]


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """Returns the type of the objects in a list of objects."""
    inner = typing.get_args(kind)[:1] if typing.get_origin(kind) is Annotated else ()
    items = typing.get_args(inner[0]) if inner and typing.get_origin(inner[0]) is list else ()
    item = items[0] if items else None
    return item if isinstance(item, type) and issubclass(item, msgspec.Struct) else None


def _mismatch(value: Any, kind: Any, path: str) -> str:
    """Returns the problem of a value that has no objects, empty if there is none."""
    place, expected = _expected(value, kind)
    if not expected:
        return ""
    inner = value
    for step in filter(None, place.strip("$[]").split("][")):
        if not step.isdigit():  # The key of a mapping, which msgspec does not name.
            return f"{path} has values of another type, expected {expected}"
        inner = inner[int(step)]
    return f"{path}{place.removeprefix('$')} is {_shown(inner)}, expected {expected}"


def _expected(value: Any, kind: Any) -> tuple[str, str]:
    """Returns where a value does not fit and what was expected there; empty if it fits."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at ")
        said = said.removeprefix("Expected ").partition(", got ")[0]
        # Backticks mark options in messages; these are types.
        return place.strip("`"), said.replace("`", "").replace("array", "list")
    return "", ""


def _shown(value: Any) -> str:
    shown = repr(value[:_MOST_SHOWN] if isinstance(value, str | list) else value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
