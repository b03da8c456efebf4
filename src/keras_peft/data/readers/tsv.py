"""Tab-separated values: a header and rows; every value is text.

A quote is a character like others. Many programs quote values as in CSV, though; a file is read in this way if
each quote that opens a value is also closed, without joining what are rows of their own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from keras_peft.data.readers import csv as separated
from keras_peft.data.readers._limits import lines_of
from keras_peft.data.readers._table import Table
from keras_peft.data.readers._text import check_text, open_text
from keras_peft.errors import DataError

COMPRESSED = True
_TAB = "\t"
_SAMPLE = 1 << 16


def table(path: Path, separator: str | None) -> Table:
    """Opens a file; a separator other than a tab is named by the user."""
    check_text(path)
    by_user, separator = separator is not None, separator or _TAB
    with open_text(path, newline="") as file:
        sample = file.read(_SAMPLE)
    quotes = _quotes(path, separator)
    dialect = separated.dialect_of(path, sample, separator, quotes=quotes, by_user=by_user)
    return separated.table_of(path, "TSV", dialect)


def _quotes(path: Path, separator: str) -> bool:
    """Reports whether quotes enclose values."""
    each_line = literal = True
    width = 0
    with open_text(path, newline="") as file:
        for line in lines_of(file, path):
            plain = line.rstrip("\r\n")
            if not plain:
                continue
            width = width or plain.count(separator)
            if '"' in plain and each_line:
                each_line = _is_closed(iter([plain]), separator, width)
            literal = literal and plain.count(separator) == width
    if each_line:
        return True
    if literal:
        return False
    with open_text(path, newline="") as file:
        return _is_closed(separated.Lines(file, path), separator, width)


def _is_closed(lines: Iterator[str], separator: str, width: int) -> bool:
    """Reports whether the lines are valid with quotes, and have one separator less than values."""
    try:
        for record in csv.reader(lines, delimiter=separator, strict=True):
            if record and len(record) != width + 1:
                return False
            if isinstance(lines, separated.Lines):
                lines.start_row()
    except (csv.Error, DataError):
        return False
    return True
