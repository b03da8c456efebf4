"""Parquet: columnar, with built-in compression."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_peft.data.readers._frames import faults_of, rows_of
from keras_peft.data.readers._hugging_face import LabelNames
from keras_peft.data.readers._table import Row, Table

COMPRESSED = False


def table(path: Path, separator: str | None) -> Table:
    """Opens a file; numbers of labels become names if Hugging Face Datasets stored them with it."""
    with faults_of(path, "Parquet"):
        import polars as pl

        described = pl.read_parquet_metadata(path).get("huggingface")
    features = _features(described)
    form = "Parquet, with the names of its labels" if LabelNames(features, "") else "Parquet"
    return Table(str(path), form, lambda chunk: _rows(path, chunk, features))


def _rows(path: Path, chunk: int, features: Any) -> Iterator[list[Row]]:
    names = LabelNames(features, str(path))
    with faults_of(path, "Parquet"):
        for rows in rows_of(path, chunk):
            names.put_into(rows)
            yield rows


def _features(described: str | None) -> Any:
    try:
        content = json.loads(described or "{}")
    except (ValueError, RecursionError):
        return None
    info = content.get("info") if isinstance(content, dict) else None
    return info.get("features") if isinstance(info, dict) else None
