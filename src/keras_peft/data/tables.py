"""Opens labelled text, wherever it is: a file, a folder, or data in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from keras_peft.data import in_memory
from keras_peft.data.readers import Table, read_table
from keras_peft.errors import OptionError

Data: TypeAlias = str | Path | Sequence[Any] | Mapping[str, Any] | Iterable[Any] | Any
"""The path of a file or folder, a list of dicts or of (text, label) pairs, a dict of columns, or a frame of pandas,
Polars, Arrow or Hugging Face Datasets."""


def open_data(data: Data, *, separator: str | None = None) -> Table:
    """Opens labelled text.

    Args:
        data: The path of a file or folder that `read_table` reads, or data that `in_memory.table` reads.
        separator: The character between the values of a CSV or TSV file; detected by default.

    Returns:
        The table.

    Raises:
        DataError: If the data cannot be read.
        OptionError: If the separator does not fit the data.
    """
    if isinstance(data, str | Path):
        return read_table(Path(data), separator=separator)
    if separator is not None:
        raise OptionError(f"`separator={separator!r}` is for files; remove it.")
    return in_memory.table(data)


def is_path(data: Data) -> TypeGuard[str | Path]:
    """Reports whether data is the path of a file or folder."""
    return isinstance(data, str | Path)


def has_columns(data: Data) -> bool:
    """Reports whether data is a table: a `Path`, a frame, a dict of columns or a list of dicts."""
    if isinstance(data, Path | Mapping) or in_memory.is_frame(data):
        return True
    return (
        isinstance(data, Sequence)
        and not isinstance(data, str)
        and bool(data)
        and isinstance(data[0], Mapping)
    )
