"""Excel workbooks: the first sheet with rows, whose first row contains the names of the columns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from keras_peft.data import names
from keras_peft.data.readers._table import Row, Table
from keras_peft.data.readers._text import in_chunks
from keras_peft.data.readers._workbook import check_workbook
from keras_peft.data.readers.csv import distinct
from keras_peft.errors import DataError, KerasPeftError, listed
from keras_peft.extras import need

COMPRESSED = False


def table(path: Path, separator: str | None) -> Table:
    """Opens a workbook.

    Raises:
        DataError: If it cannot be read, or no sheet has rows.
    """
    sheets = _sheets(path)
    filled = {name: rows for name, rows in sheets.items() if len(rows) > 1}
    if not filled:
        raise DataError(
            f"{path} has no sheet with rows; expected the names of the columns and rows below them."
        )
    # The sheet whose header is known, or the first.
    name = next(
        (name for name, (top, *_) in filled.items() if any(map(names.is_known, top))), next(iter(filled))
    )
    header, *rows = filled[name]
    while header and header[-1] == "":
        header.pop()
    columns, notes = distinct([str(value) for value in header])
    if len(filled) > 1:
        notes = (
            f"only the sheet {name!r} was read; others are {listed(one for one in filled if one != name)}",
            *notes,
        )
    return Table(
        str(path), f"Excel, sheet {name!r}", lambda chunk: in_chunks(_rows(path, columns, rows), chunk), notes
    )


def _sheets(path: Path) -> dict[str, list[list[Any]]]:
    need("Reading Excel workbooks", "python_calamine")
    from python_calamine import CalamineWorkbook

    try:
        check_workbook(path)
        with CalamineWorkbook.from_path(path) as book:
            return {name: book.get_sheet_by_name(name).to_python() for name in book.sheet_names}
    # The library panics on some damaged files.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # Such as an interrupt.
        if isinstance(error, KerasPeftError | MemoryError):
            raise
        raise DataError(
            f"{path} is not a valid Excel workbook: it is damaged, protected or something else. Save it again, or as "
            ".csv."
        ) from error


def _rows(path: Path, columns: tuple[str, ...], rows: list[list[Any]]) -> Iterator[Row]:
    for number, values in enumerate(rows, 2):
        if any(value != "" for value in values[len(columns) :]):
            raise DataError(
                f"{path}, row {number} has a value to the right of the {len(columns)} columns with a name; name its "
                "column, or remove it."
            )
        cells = [_plain(value) for value in values[: len(columns)]]
        if any(cell is not None for cell in cells):
            cells += [None] * (len(columns) - len(cells))
            yield dict(zip(columns, cells, strict=True))


def _plain(value: Any) -> Any:
    """Returns a cell's value as in JSON; whole numbers have no fraction, because Excel has only one type."""
    if value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value) if isinstance(value, date | datetime | time | timedelta) else value
