"""Parquet: columnar, with built-in compression."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_peft.data.readers._frames import faults_of, rows_of

COMPRESSED = False


def read(path: Path, chunk: int) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows with their values unconverted."""
    with faults_of(path, "PARQUET"):
        import polars as pl

        yield from rows_of(pl.scan_parquet(path, glob=False), chunk)
