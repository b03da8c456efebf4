"""Comma-separated values: a header and rows; every value is text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_peft.data.readers._frames import faults_of, rows_of
from keras_peft.data.readers._text import check_text

COMPRESSED = True


def read(
    path: Path, chunk: int, *, name: str = "CSV", separator: str = ","
) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows; an empty value is None unless it is quoted."""
    check_text(path)
    with faults_of(path, name):
        import polars as pl

        # Polars decompresses the file itself, in pieces.
        yield from rows_of(pl.scan_csv(path, separator=separator, infer_schema=False, glob=False), chunk)
