"""A table of any size: how its source was read, and its rows in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows that can be read any number of times.

    Attributes:
        name: Name of the source, for messages.
        form: How the source was read, such as `CSV, separator ";"`, for display.
        batches: Function from an approximate number of rows to an iterator over lists of rows.
        notes: Human-readable notes on the source, such as a column name that occurs twice.
        separator: The character between the values of a CSV or TSV file.
        decimal_comma: Whether numbers are written with a decimal comma where they have one.
    """

    name: str
    form: str
    batches: Callable[[int], Iterator[list[Row]]]
    notes: tuple[str, ...] = ()
    decimal_comma: bool = False
    separator: str | None = None
