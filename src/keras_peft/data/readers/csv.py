"""Comma-separated values: a header and rows; every value is text.

The rules are those of RFC 4180: a value with a separator, a quote or a line break is quoted, and a quote in it
is doubled. Files that break them are refused with the line number, because guessing would join or split rows.
The apostrophe before a formula is removed, except in files with one token per line; see `data/formulas.py`.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TextIO

from keras_peft.data import names
from keras_peft.data.formulas import unprotected
from keras_peft.data.readers._limits import LONGEST, lines_of, too_long
from keras_peft.data.readers._table import Row, Table
from keras_peft.data.readers._text import check_text, in_chunks, open_text
from keras_peft.data.readers._tokens import LineSentences
from keras_peft.errors import DataError, OptionError, listed

COMPRESSED = True
_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {"\t": "tab", ";": '";"', ",": '","', "|": '"|"'}
# Characters that decide on the separator.
_SAMPLE = 1 << 16
# Values that a column is remembered by, to recognise rows that a quote has joined.
_REMEMBERED, _LONGEST = 1000, 60
_SHOWN = 5
_QUOTING: dict[bool, Literal[0, 3]] = {True: csv.QUOTE_MINIMAL, False: csv.QUOTE_NONE}
csv.field_size_limit(LONGEST)


@dataclass(frozen=True)
class Dialect:
    """How the lines of a file are split into values.

    Attributes:
        separator: The character between two values.
        quotes: Whether quotes have a meaning.
        skipped: Number of lines before the header.
        columns: Names of the columns, each different.
        by_token: Whether each line contains a token, and empty lines separate sentences.
        spaces: Whether quoted values may follow a space.
        notes: Human-readable notes on the header.
    """

    separator: str
    quotes: bool
    skipped: int
    columns: tuple[str, ...]
    by_token: bool
    spaces: bool
    notes: tuple[str, ...]


def table(path: Path, separator: str | None) -> Table:
    """Opens a file whose separator is detected, unless it is known."""
    check_text(path)
    dialect = _dialect(path, separator)
    return table_of(path, "CSV", dialect)


def table_of(path: Path, name: str, dialect: Dialect) -> Table:
    """Creates the table of a file whose dialect is known.

    Args:
        path: The file.
        name: Name of the format, for display.
        dialect: How its lines are split.
    """
    form = name if dialect.separator == "\t" == _DEFAULTS.get(name) else _described(name, dialect)
    if dialect.by_token:
        form += ", one token per line"
    return Table(
        name=str(path),
        form=form,
        batches=lambda chunk: in_chunks(_rows(path, name, dialect), chunk),
        notes=dialect.notes,
        decimal_comma=dialect.separator == ";",
        separator=dialect.separator,
    )


_DEFAULTS = {"CSV": ",", "TSV": "\t"}


def _described(name: str, dialect: Dialect) -> str:
    if len(dialect.columns) == 1:
        return f"{name}, one column"
    return f"{name}, separator {_NAMES.get(dialect.separator, repr(dialect.separator))}"


def _dialect(path: Path, separator: str | None) -> Dialect:
    skipped = 0
    with open_text(path, newline="") as file:
        sample = file.read(_SAMPLE)
    first, *_ = sample.splitlines() or [""]
    # Excel's own notation for the separator.
    if first.lower().startswith("sep=") and len(first) == len("sep=") + 1:
        separator = separator or first[-1]
        skipped = 1
        sample = "".join(sample.splitlines(keepends=True)[1:])
    chosen = separator or max(_SEPARATORS, key=lambda one: _fit(sample, one))
    return dialect_of(path, sample, chosen, skipped=skipped, by_user=separator is not None)


def dialect_of(
    path: Path, sample: str, separator: str, *, quotes: bool = True, skipped: int = 0, by_user: bool = False
) -> Dialect:
    """Reads the header of a file.

    Args:
        path: The file, for messages.
        sample: The start of the file, from the header on.
        separator: The character between two values.
        quotes: Whether quotes have a meaning.
        skipped: Number of lines before the header.
        by_user: Whether the user named the separator.

    Raises:
        DataError: If there is no header.
        OptionError: If the user's separator does not occur in the header.
    """
    spaces = quotes and f'{separator} "' in sample
    records = [
        record
        for record in _parsed(sample, separator, quotes=quotes, spaces=spaces)
        if any(map(str.strip, record))
    ]
    if not records or not any(value.strip() for value in records[0]):
        raise DataError(f"{path} is empty; expected a header and rows of labelled text.")
    header = records[0]
    if by_user and len(header) == 1:
        raise OptionError(
            f"`separator={separator!r}`: the header of {path} is {header[0]!r}, which does not contain it; name "
            "another separator, or remove it to have it detected."
        )
    # The end of a sample may be cut.
    rows = records[1:] if len(sample) < _SAMPLE else records[1:-1]
    is_longer = len(rows) > 1 and all(len(record) == len(header) + 1 for record in rows)
    if len(header) > 1 and is_longer and any(record[-1] for record in rows):
        header = ["row name", *header]  # R leaves out the name of the first column.
    columns, notes = distinct([unprotected(name) for name in header])
    return Dialect(
        separator, quotes, skipped, columns, _is_by_token(columns, sample, separator, quotes), spaces, notes
    )


def distinct(header: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Gives every column a name of its own.

    Args:
        header: Names of the columns, as they are written.

    Returns:
        The names, and notes on those that occur more than once.
    """
    found: list[str] = []
    notes: list[str] = []
    for place, name in enumerate(header, 1):
        wanted = own = name.strip() or f"column {place}"
        number = 1
        while own in found:
            number += 1
            own = f"{wanted} ({number})"
        if number > 1:
            notes.append(
                f"the column {wanted!r} occurs more than once; the first is read, another is called {own!r}"
            )
        found.append(own)
    return tuple(found), tuple(notes)


def _fit(sample: str, separator: str) -> tuple[bool, int, float, int]:
    """Rates a separator: whether it splits the header, into known names, and the rows into as many values."""
    records = [record for record in _parsed(sample, separator) if record]
    if not records or len(records[0]) < 2:
        return False, 0, 0.0, -_SEPARATORS.index(separator)
    header, rows = records[0], records[1:-1] or records[1:]
    known = sum(names.is_known(name) for name in header)
    same = sum(len(row) == len(header) for row in rows) / len(rows) if rows else 1.0
    return True, known, round(same, 1), -_SEPARATORS.index(separator)


def _parsed(sample: str, separator: str, *, quotes: bool = True, spaces: bool = False) -> list[list[str]]:
    try:
        return list(
            csv.reader(
                sample.splitlines(keepends=True),
                delimiter=separator,
                quoting=_QUOTING[quotes],
                skipinitialspace=spaces,
            )
        )
    except csv.Error:
        return []


def _is_by_token(columns: tuple[str, ...], sample: str, separator: str, quotes: bool) -> bool:
    """Reports whether there are columns of tokens and tags, and empty lines between the sentences."""
    if len(columns) < 2 or not names.find(columns, names.TOKENS) or not names.find(columns, names.TAGS):
        return False
    records = _parsed(sample, separator, quotes=quotes)[1:]
    place = columns.index(names.find(columns, names.TOKENS) or "")
    if any(" " in record[place].strip() for record in records if len(record) > place):
        return False
    while records and not records[-1]:
        records.pop()
    while records and not records[0]:
        records.pop(0)
    return any(not any(record) for record in records)


def _rows(path: Path, name: str, dialect: Dialect) -> Iterator[Row]:
    records = _records(path, name, dialect)
    next(record for _, record in records if any(value.strip() for value in record))  # the header
    if dialect.by_token:
        yield from _sentences(path, records, dialect)
        return
    width = len(dialect.columns)
    wrong: list[str] = []
    more = 0
    joined = _Joined(width, dialect.separator)
    for line, record in records:
        if not any(record):
            continue
        values = [unprotected(value) or None for value in record]
        while len(values) > width and values[-1] is None:  # Excel pads short headers.
            values.pop()
        if len(values) > width:
            if len(wrong) < _SHOWN:
                wrong.append(f"line {line} has {len(values)}")
            else:
                more += 1
            continue
        joined.see(line, record)
        yield dict(zip(dialect.columns, chain(values, [None] * (width - len(values))), strict=True))
    if wrong:
        raise _uneven(path, dialect, wrong, more)
    joined.check(path)


def _sentences(path: Path, records: Iterator[tuple[int, list[str]]], dialect: Dialect) -> Iterator[Row]:
    """Yields the sentences of a file with one token per line."""
    sentences = LineSentences(dialect.columns, str(path))
    wrong = []
    for line, record in records:
        if any(record) and len(record) != len(dialect.columns):
            wrong.append(f"line {line} has {len(record)}")
        else:
            yield from sentences.add(record)
    if wrong:
        raise _uneven(path, dialect, wrong[:_SHOWN], len(wrong) - _SHOWN)
    yield from sentences.end()


def _uneven(path: Path, dialect: Dialect, wrong: list[str], more: int) -> DataError:
    width = len(dialect.columns)
    return DataError(
        f"{path} has {width} column{'s' if width > 1 else ''} (its header is {listed(dialect.columns)}), but "
        f"{listed(wrong)} values{f', and so do {more} more lines' if more > 0 else ''}. Quote values that contain "
        f"{_NAMES.get(dialect.separator, dialect.separator)}, or name another `separator`."
    )


def _records(path: Path, name: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yields the records, beginning with the header, each with the number of its first line."""
    with open_text(path, newline="") as file:
        for _ in range(dialect.skipped):
            next(file)
        lines = Lines(file, path, skipped=dialect.skipped)
        reader = csv.reader(
            lines,
            delimiter=dialect.separator,
            quoting=_QUOTING[dialect.quotes],
            strict=dialect.quotes,
            skipinitialspace=dialect.spaces,
        )
        start = 1 + dialect.skipped
        try:
            for record in reader:
                yield start, record
                lines.start_row()
                start = 1 + dialect.skipped + reader.line_num
        except csv.Error as error:
            raise _refusal(
                path, name, start, dialect.skipped + reader.line_num, lines.current, error
            ) from None


class Lines:
    """The lines of a file, of which a row may take several.

    Args:
        file: The open file.
        path: The file, for messages.
        skipped: Number of lines before the first.

    Attributes:
        current: The last line.
    """

    def __init__(self, file: TextIO, path: Path, *, skipped: int = 0) -> None:
        self.current = ""
        self._lines, self._path = lines_of(file, path), path
        self._number, self._start, self._length = skipped, skipped + 1, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.current = next(self._lines)
        self._number += 1
        self._length += len(self.current)
        if self._length > LONGEST:
            raise too_long(
                f"{self._path}, line {self._start}",
                hint=" A quote that is never closed may be the cause." if self._number > self._start else "",
            )
        return self.current

    def start_row(self) -> None:
        """Begins to count the characters of the next row."""
        self._start, self._length = self._number + 1, 0


def _refusal(path: Path, name: str, start: int, line: int, content: str, error: csv.Error) -> DataError:
    if "end of data" in str(error):
        return DataError(
            f"{path}, line {start}: a quoted value is never closed, so the {line - start + 1:,} lines up to the end of "
            'the file would be one value; remove the quote, or double it ("").'
        )
    backslash = " The file escapes quotes with a backslash;" if '\\"' in content else ""
    began = f" The value began in line {start}, so an earlier quote may be the cause." if start < line else ""
    return DataError(
        f"{path}, line {line}: after a closing quote, expected the end of the value, in {content.strip()[:80]!r}."
        f'{began}{backslash or " Inside a quoted value,"} write a quote as two quotes (""), as {name} requires.'
    )


class _Joined:
    """Finds rows that an opening quote has joined into one value.

    Such a value contains lines that look like rows: they have as many values as the header, and in one of the
    columns only values that other rows have.

    Args:
        width: Number of columns.
        separator: The character between two values.
    """

    def __init__(self, width: int, separator: str) -> None:
        self._width, self._separator = width, separator
        self._seen: dict[int, Counter[str]] = defaultdict(Counter)
        self._suspects: list[tuple[int, int, list[list[str]]]] = []

    def see(self, line: int, record: list[str]) -> None:
        """Looks at a record that begins in a line."""
        if self._width < 2:
            return
        for place, value in enumerate(record[: self._width]):
            if "\n" not in value and "\r" not in value:
                own = self._seen[place]
                if len(value) <= _LONGEST and (value in own or len(own) < _REMEMBERED):
                    own[value] += 1
                continue
            within = value.splitlines()[1:]
            # The last line ends with the value, so it lacks the columns after it.
            inside = [_split(one, self._separator) for one in within[:-1]]
            if inside and all(len(one) == self._width for one in inside) and len(self._suspects) < _SHOWN:
                self._suspects.append((line, len(within), inside))

    def check(self, path: Path) -> None:
        """Raises an error if rows were joined."""
        for line, count, inside in self._suspects:
            for place in range(self._width):
                own = [one[place] for one in inside]
                # Values such as labels, which occur again and again.
                if all(value and self._seen[place][value] > 1 for value in own):
                    raise DataError(
                        f"{path}, line {line}: a quoted value continues over the next {count} lines, and "
                        f"{'they look' if len(inside) > 1 else 'one looks'} like rows of their own; close the quote, "
                        'remove it, or double it ("").'
                    )


def _split(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])
