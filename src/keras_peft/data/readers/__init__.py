"""Reads tables of any size in chunks of rows, with one module per file format.

x.csv, x.tsv             csv.py, tsv.py     a header and rows
x.jsonl                  jsonl.py           one object per line
x.json                   json.py            a list of objects, or an object that contains one
x.parquet, x.arrow       parquet.py, arrow.py
x                        _folder.py         a folder from `Dataset.save_to_disk` of Hugging Face Datasets

The file extension selects the module. A module defines `read(path, chunk)`, and `COMPRESSED`,
which states whether it also reads files with an additional `.gz`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_peft.data.readers import _folder
from keras_peft.data.readers._formats import FORMATS, READABLE, ending_of, formats
from keras_peft.errors import DataError, did_you_mean

__all__ = ["FORMATS", "READABLE", "Row", "ending_of", "read_rows"]

Row = dict[str, Any]


def read_rows(path: Path, *, chunk: int = 4096) -> Iterator[list[Row]]:
    """Reads a table in chunks, so that it may be larger than memory.

    Args:
        path: A file with one of the extensions in `FORMATS`, or a folder written by
            `Dataset.save_to_disk`.
        chunk: Approximate number of rows per chunk.

    Yields:
        Lists of rows in file order. A row maps column names to values. Nested values are lists and
        dicts, except in CSV and TSV files, which contain only text.

    Raises:
        DataError: If the file does not exist, is empty, incomplete or malformed, has an unknown
            format, or is not UTF-8.

    Example:
        >>> next(read_rows(Path("conversations.jsonl")))[0]
        {'text': 'Jon: Which one is faster? Sumit: The small one.', 'label': 'question'}
    """
    if path.is_dir():
        yield from _folder.read(path, chunk)
        return
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected a {READABLE}.{_similar(path)}")
    ending = ending_of(path)
    if ending not in FORMATS:
        raise DataError(
            f"{path} ends in {ending!r}, which is not supported; the supported formats are {', '.join(FORMATS)}."
            f"{did_you_mean(ending, FORMATS)}"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; expected rows of labelled text.")
    yield from formats()[ending].read(path, chunk)


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist either."
    return did_you_mean(path.name, [other.name for other in path.parent.iterdir()])
