"""JSON: a list of objects, an object that contains one, {"data": [{…}, …]}, or columns, {"text": […], "label": […]}.

Python's decoder receives the file in pieces, so that the list may be larger than memory. All forms in which pandas
writes a frame are read, except lists of values without the names of their columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from keras_peft.data import names as known
from keras_peft.data.readers._json import as_row, near
from keras_peft.data.readers._limits import LONGEST, memory, too_long
from keras_peft.data.readers._table import Row, Table
from keras_peft.data.readers._text import check_text, in_chunks, open_text
from keras_peft.errors import DataError, listed

COMPRESSED = True
_EXPECTED = (
    'expected a list of objects, [{…}, …], an object with one such list, {"data": [{…}, …]}, or columns, '
    '{"text": […], "label": […]}'
)
_BLOCK = 1 << 16
# If a piece ends inside a literal, the decoder reports an error at most this far from the end.
_LITERAL = len("-Infinity") + 3
_SPACE = re.compile(r"[ \t\r\n]*")
# Python's objects for a JSON text are up to about 20 times its size.
_SHARE_OF_MEMORY = 32
_LIST_OF_OBJECTS = re.compile(r"\[\s*(\S)")


def table(path: Path, separator: str | None) -> Table:
    """Opens a file."""
    check_text(path)
    return Table(str(path), "JSON", lambda chunk: _batches(path, chunk))


def _batches(path: Path, chunk: int) -> Iterator[list[Row]]:
    with open_text(path) as file:
        pieces = _Pieces(file, path)
        try:
            yield from in_chunks(_objects(pieces, path), chunk)
        except (ValueError, RecursionError) as error:
            line = pieces.line(error.pos if isinstance(error, json.JSONDecodeError) else None)
            text = error.doc if isinstance(error, json.JSONDecodeError) else ""
            raise DataError(
                f"{path} is not valid JSON at line {line} ({near(text, error)}); fix it, or write it again."
            ) from None


class _Pieces:
    """A JSON text of which only the part being decoded is in memory."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._text = ""
        self._at = 0
        self._lines = 1
        self._decoder = json.JSONDecoder()

    def line(self, position: int | None = None) -> int:
        """Returns the line number of a position in the current piece."""
        return self._lines + self._text.count("\n", 0, self._at if position is None else position)

    def next(self) -> str:
        """Returns the next character that is not whitespace, or "" at the end."""
        while True:
            self._at = _end_of_space(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """Consumes one of the expected characters and returns it.

        Raises:
            JSONDecodeError: If another character follows.
        """
        found = self.next()
        if not found or found not in expected:
            words = " or ".join(repr(one) for one in expected)
            raise json.JSONDecodeError(f"Expecting {words}", self._text, self._at)
        self._at += 1
        return found

    def value(self, *, longest: int = LONGEST) -> Any:
        """Decodes the next value.

        Args:
            longest: Maximum characters of the value.

        Raises:
            DataError: If the value is too long.
            ValueError: If no valid value follows.
            RecursionError: If the value is nested too deeply.
        """
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _LITERAL
                if cut and self._more(longest):
                    continue
                raise
            # A number at the end of a piece may continue in the next.
            if end == len(self._text) and self._more(longest):
                continue
            if end - self._at > longest:
                raise self._too_long(longest)
            self._at = end
            return value

    def holds_objects(self) -> bool:
        """Reports whether the next value is a list whose first item is an object."""
        if self.next() != "[":
            return False
        while not (found := _LIST_OF_OBJECTS.match(self._text, self._at)):
            if not self._more(LONGEST):
                return False
        return found[1] == "{"

    def _more(self, longest: int = LONGEST) -> bool:
        if len(self._text) - self._at > longest:
            raise self._too_long(longest)
        # Doubling the text limits how often a long value is decoded from its start.
        more = self._file.read(max(_BLOCK, len(self._text) - self._at))
        if more:
            self._lines += self._text.count("\n", 0, self._at)
            self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def _too_long(self, longest: int) -> DataError:
        if longest == LONGEST:
            return too_long(f"{self._path}, line {self.line()}")
        return DataError(
            f"{self._path} contains a value of more than {longest >> 20} million characters, which does not fit in "
            "memory; write it as JSON Lines, one object per line."
        )


def _end_of_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _objects(pieces: _Pieces, path: Path) -> Iterator[Row]:
    first = pieces.next()
    if first == "[":
        yield from _items(pieces, path)
    elif first == "{":
        yield from _member(pieces, path)
    else:
        pieces.value()  # Raises an error if the file is not JSON at all.
        raise DataError(f"{path} contains a single value; {_EXPECTED}.")
    if pieces.next():
        pieces.value()
        raise DataError(f"{path} contains more than one value, like JSON Lines; {_EXPECTED}.")


def _member(pieces: _Pieces, path: Path) -> Iterator[Row]:
    """Yields the items of the only list of objects in an object."""
    names: list[str] = []
    others: dict[str, Any] = {}
    pieces.take("{")
    more = pieces.next() != "}"
    while more:
        if pieces.next() != '"':
            pieces.take('"')
        name = pieces.value()
        pieces.take(":")
        if pieces.holds_objects():
            names.append(name)
            if len(names) == 2:
                raise DataError(
                    f"{path} has more than one list of objects: {listed(map(repr, names))}; {_EXPECTED}."
                )
            yield from _items(pieces, path)
        else:
            others[name] = pieces.value(longest=max(LONGEST, memory() // _SHARE_OF_MEMORY))
        more = pieces.take(",}") == ","
    if not others and not names:
        pieces.take("}")
    if names:
        return
    if pieces.next() == "{":
        raise DataError(f"{path} is JSON Lines, one object per line; rename it to {_as_lines(path)}.")
    if (rows := _rows_of(others)) is None:
        raise DataError(
            f"{path} is an object without a list of objects (it has {listed(others)}); {_EXPECTED}."
        )
    yield from rows


def _rows_of(members: dict[str, Any]) -> list[Row] | None:
    """Returns the rows of a frame in one of the forms that pandas writes, or None if it is none."""
    columns, values = members.get("columns"), members.get("data")
    if (
        isinstance(columns, list)
        and isinstance(values, list)
        and all(isinstance(one, list) for one in values)
    ):
        if any(len(one) != len(columns) for one in values):
            return None
        return [dict(zip(map(str, columns), one, strict=True)) for one in values]
    every = list(members.values())
    if not every:
        return None
    if all(isinstance(one, list) for one in every):
        if len({len(one) for one in every}) > 1:
            return None
        return [dict(zip(members, row, strict=True)) for row in zip(*every, strict=True)]
    if all(isinstance(one, dict) for one in every):
        # Either the rows by their number, or the columns, each with its values by the number of the row.
        if any(known.is_known(name) for name in every[0]) and not any(map(known.is_known, members)):
            return every
        if all(one.keys() == every[0].keys() for one in every):
            return [{name: one[number] for name, one in members.items()} for number in every[0]]
    return None


def _items(pieces: _Pieces, path: Path) -> Iterator[Row]:
    wrong: list[str] = []
    count = 0
    number = 0
    pieces.take("[")
    if pieces.next() == "]":
        pieces.take("]")
        return
    while True:
        number += 1
        item = pieces.value()
        row = as_row(item)
        if row is None:
            count += 1
            if count <= 5:
                wrong.append(f"item {number} is a JSON {type(item).__name__}")
        elif not count:
            yield row
        if pieces.take(",]") == "]":
            break
    if count:
        more = f" and {count - len(wrong)} more" if count > len(wrong) else ""
        raise DataError(f"{path}: {listed(wrong)}{more}; {_EXPECTED}.")


def _as_lines(path: Path) -> str:
    name = path.name
    start = name.lower().rindex(".json")
    return f"{name[:start]}.jsonl{name[start + len('.json') :]}"
