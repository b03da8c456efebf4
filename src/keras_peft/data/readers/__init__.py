"""Reads tables of any size in batches of rows, with one module per file format.

x.csv, x.tsv             csv.py, tsv.py     a header and rows
x.jsonl, x.ndjson        jsonl.py           one object per line
x.json                   json.py            a list of objects, or an object that contains one
x.parquet, x.arrow       parquet.py, arrow.py
x.xlsx                   xlsx.py            the first sheet of an Excel workbook
x.txt                    txt.py             fastText, one token per line, or one text per line
x.conll, x.bio, x.iob    conll.py           one token per line
x.zip                    _archive.py        one of these in an archive
x                        _folder.py         a folder from `Dataset.save_to_disk` of Hugging Face Datasets
x                        _label_folders.py  a folder with a folder of .txt files for each label

The file extension selects the module. A module defines `table(path, separator)`, and `COMPRESSED`,
which states whether it also reads files with an additional `.gz`; `ALSO` lists further extensions.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path

from keras_peft.data.readers import _archive, _folder, _label_folders
from keras_peft.data.readers._formats import FOREIGN, FORMATS, READABLE, ending_of, formats, identify
from keras_peft.data.readers._table import Row, Table
from keras_peft.errors import DataError, OptionError, did_you_mean

__all__ = [
    "FORMATS",
    "READABLE",
    "Row",
    "Table",
    "ending_of",
    "has_bom",
    "has_separator",
    "read_rows",
    "read_table",
]

_ARCHIVE = ".zip"
_SEPARATED = (".csv", ".csv.gz", ".tsv", ".tsv.gz", _ARCHIVE)
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}


def read_table(path: Path, *, separator: str | None = None) -> Table:
    """Opens a table, whose rows are then read in batches, so that it may be larger than memory.

    Args:
        path: A file with one of the extensions in `FORMATS`, a folder written by `Dataset.save_to_disk`, or a
            folder with a folder of .txt files for each label.
        separator: The character between the values of a CSV or TSV file, or "tab"; detected by default.

    Returns:
        The table.

    Raises:
        DataError: If the file does not exist, is empty, or is of an unknown format. Errors in the rows are
            raised when they are read.
        OptionError: If the separator is not a single character, or the format has none.

    Example:
        >>> read_table(Path("export.csv")).form
        'CSV, separator ";"'
    """
    if separator is not None:
        separator = _SEPARATORS.get(separator, separator)
        if len(separator) != 1 or separator in '"\r\n':
            raise OptionError(f"`separator={separator!r}`: expected a single character, or tab.")
        if not has_separator(path):
            raise OptionError(f"`separator={separator!r}`: {path} is not a CSV or TSV file; remove it.")
    if path.is_dir():
        folders = _label_folders.texts_by_label(path)
        return _label_folders.table(path, folders) if folders else _folder.table(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected a {READABLE}.{_similar(path)}")
    return _read_file(path, separator)


def _read_file(path: Path, separator: str | None) -> Table:
    ending = ending_of(path)
    if ending not in (*FORMATS, _ARCHIVE):
        if ending in FOREIGN:
            raise DataError(f"{path} is {FOREIGN[ending]}.")
        raise DataError(
            f"{path} ends in {ending!r}, which is not supported; the supported formats are {', '.join(FORMATS)}."
            f"{did_you_mean(ending, FORMATS)}"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; expected rows of labelled text.")
    found = identify(path)
    if found is not None and found[1] != ending:
        what, right = found
        advice = (
            f"rename it to {path.stem}{right}" if right else "save its texts and labels as .csv or .jsonl"
        )
        raise DataError(f"{path} is {what}, despite its name; {advice}.")
    if ending == _ARCHIVE:
        return _archive.table(path, lambda inner: _read_file(inner, separator))
    return formats()[ending].table(path, separator)  # type: ignore[no-any-return]


def read_rows(path: Path, *, chunk: int = 4096, separator: str | None = None) -> Iterator[list[Row]]:
    """Reads a table in batches; see `read_table`.

    Args:
        path: See `read_table`.
        chunk: Approximate number of rows per batch.
        separator: See `read_table`.

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
    yield from read_table(path, separator=separator).batches(chunk)


def has_separator(path: Path) -> bool:
    """Reports whether a file has values with a separator, by its extension: CSV, TSV, or an archive of one.

    Args:
        path: The file.
    """
    return not path.is_dir() and ending_of(path) in _SEPARATED


def has_bom(path: Path) -> bool:
    """Reports whether a file begins with the byte order mark of UTF-8."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(BOM_UTF8)) == BOM_UTF8


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist either."
    return did_you_mean(path.name, [other.name for other in path.parent.iterdir()])
