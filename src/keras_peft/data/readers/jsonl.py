"""JSON Lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from keras_peft.data.readers._json import as_row, near
from keras_peft.data.readers._limits import lines_of
from keras_peft.data.readers._table import Row, Table
from keras_peft.data.readers._text import check_text, in_chunks, open_text
from keras_peft.errors import DataError, listed

COMPRESSED = True
ALSO = ("ndjson",)
_SHOWN = 5


def table(path: Path, separator: str | None) -> Table:
    """Opens a file; empty lines are skipped."""
    check_text(path)
    return Table(str(path), "JSON Lines", lambda chunk: in_chunks(_objects(path), chunk))


def _objects(path: Path) -> Iterator[Row]:
    broken: list[str] = []
    more = 0
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file, path), 1):
            if not line.strip():
                continue
            row: Row | None = None
            try:
                value = json.loads(line)
                row = as_row(value)
                reason = "" if row is not None else f"a JSON {type(value).__name__}, not an object"
            except (ValueError, RecursionError) as error:
                reason = near(line, error)
            if row is not None and not broken:
                yield row
            elif reason and len(broken) < _SHOWN:
                broken.append(f"line {number} ({reason})")
            elif reason:
                more += 1
    if broken:
        count = len(broken) + more
        raise DataError(
            f"{path} is not valid JSON Lines, one object per line, at {listed(broken)}"
            f"{f' and {more} more' if more else ''}. Fix {'this line' if count == 1 else f'these {count} lines'}."
        )
