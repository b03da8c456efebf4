"""Tab-separated values: a header and rows; every value is text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_peft.data.readers import csv

COMPRESSED = True


def read(path: Path, chunk: int) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows; an empty value is None unless it is quoted."""
    return csv.read(path, chunk, name="TSV", separator="\t")
