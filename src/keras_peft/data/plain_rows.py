"""The rows of a table in a plain form, whatever tool wrote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

from keras_peft.data import exports
from keras_peft.data.readers import Row, Table

T = TypeVar("T")
_CHUNK = 4096


class PlainRows:
    """The rows of a table, in a plain form whatever tool wrote them.

    Args:
        table: The table.

    Attributes:
        tool: Name of the tool that wrote the rows, or None.
        first: The first rows, in their plain form.
        left_out: Number of rows that were left out, by reason; complete after an iteration.
        count: Number of rows of the table; complete after an iteration.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        start = next((rows for rows in table.batches(_CHUNK) if rows), [])
        self._export = exports.recognise(start) if start else None
        self.tool: str | None = self._export.NAME if self._export is not None else None
        self.left_out: Counter[str] = Counter()
        self.count = 0
        self.first = [row for _, row in self._plain(iter([start]))] if start else []
        if not self.first and start:
            # All of the first rows are left out.
            self.first = [row for _, (_, row) in zip(range(_CHUNK), self, strict=False)]

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Yields the rows with their numbers, counted from 1."""
        return self._plain(self._table.batches(_CHUNK))

    def _plain(self, batches: Iterator[list[Row]]) -> Iterator[tuple[int, Row]]:
        self.left_out.clear()
        self.count = 0
        rows: Iterator[Any] = chain.from_iterable(batches)
        if self._export is not None:
            rows = self._export.convert(rows)
        for row in rows:
            self.count += 1
            if isinstance(row, exports.LeftOut):
                self.left_out[row.reason] += 1
            else:
                yield self.count, row


def batched(rows: Iterable[T], count: int) -> Iterator[list[T]]:
    """Groups rows into lists.

    Args:
        rows: The rows.
        count: Number of rows per list; the last may have fewer.
    """
    iterator = iter(rows)
    while batch := list(islice(iterator, count)):
        yield batch
