"""JSON Lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_peft.data.readers._text import check_text, in_chunks, open_text
from keras_peft.errors import DataError, listed

COMPRESSED = True
_SHOWN = 5


def read(path: Path, chunk: int) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows and skips empty lines."""
    check_text(path)
    return in_chunks(_objects(path), chunk)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    broken: list[str] = []
    more = 0
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                reason = "" if isinstance(row, dict) else f"a JSON {type(row).__name__}, not an object"
            except (ValueError, RecursionError) as error:
                reason = str(error)
            if not reason and not broken:
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
