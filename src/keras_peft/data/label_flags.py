"""Tables with a column of 0 and 1, yes and no, or x and blank for each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_peft.errors import DataError, listed
from keras_peft.store import LABELS, Collector

_TRUE = {"1", "1.0", "true", "yes", "y", "x", "✓", "✔"}
_FALSE = {"0", "0.0", "false", "no", "n"}
_MISSING = {"-1", "-1.0"}


def cell(values: Sequence[Any], columns: Sequence[str]) -> list[int | None] | None:
    """Returns the flags of a row.

    Args:
        values: Values of the row, one for each column.
        columns: Names of the columns, for messages.

    Returns:
        A 0 or 1 for each column, with None for a blank; None if all are -1, which benchmarks write for rows without
        labels.

    Raises:
        DataError: If a value is something else.
    """
    given = ["" if value is None else str(value).strip().lower() for value in values]
    if _MISSING.issuperset(given):
        return None
    if wrong := [
        f"{value!r} in {name!r}"
        for name, value in zip(columns, given, strict=True)
        if value and value not in _TRUE and value not in _FALSE
    ]:
        raise DataError(
            f"a column for each label contains a 0 or 1, yes or no, or an x; got {listed(wrong)}. Convert the columns, "
            "or name others with `label_columns`."
        )
    return [None if not value else int(value in _TRUE) for value in given]


def filled(cells: Sequence[list[int | None] | None]) -> Sequence[Any]:
    """Returns the flags of all rows, in which blanks count as 0 if nobody wrote a 0.

    Args:
        cells: The flags of each row.

    Returns:
        A list of 0 and 1 for each row; None for a row of blanks, which was not filled in, and for a row with a blank
        where others have a 0.
    """
    writes_zero = any(0 in row for row in cells if row is not None)
    found: Collector[Any] = Collector(LABELS)
    for row in cells:
        is_blank = row is None or (None in row and (writes_zero or not any(row)))
        found.add(None if is_blank or row is None else [int(bool(one)) for one in row])
    return found.done()
