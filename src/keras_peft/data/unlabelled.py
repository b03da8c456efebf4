"""Reads texts without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_peft.data.columns import check_column
from keras_peft.data.duplicates import digests
from keras_peft.data.examples import Examples
from keras_peft.data.plain_rows import PlainRows
from keras_peft.data.tables import Data, open_data
from keras_peft.errors import DataError
from keras_peft.store import TEXTS, Collector, pick


@dataclass(frozen=True)
class Unlabelled:
    """Distinct texts without labels.

    Attributes:
        texts: The texts, in the form that the task reads.
        notes: Human-readable notes on rows that were left out.
    """

    texts: Sequence[Any]
    notes: tuple[str, ...]


def read_unlabelled(data: Data, training: Examples, *, separator: str | None = None) -> Unlabelled:
    """Reads texts without labels, for a training on labelled ones.

    Rows without a text, texts that occur before, and labelled texts are left out. Other columns are ignored.

    Args:
        data: A path, or data in memory, as for labelled text; it may be of any size.
        training: The labelled texts, whose columns and task are used. Plain text, with one text per line, has no
            names of columns.
        separator: Separator of the values, if it is a CSV or TSV file whose separator is not detected.

    Returns:
        The texts.

    Raises:
        DataError: If the file has no such columns, or no text is left.
    """
    import numpy as np

    columns, reading = training.columns[:-1], training.input
    found: Collector[Any] = Collector(TEXTS)
    table = open_data(data, separator=separator)
    rows = PlainRows(table)
    if len(columns) == 1 and rows.first and list(rows.first[0]) == ["text"]:
        columns = ("text",)
    for column in columns if rows.first else ():
        check_column(rows.first[0], column, table.name, "text_column")
    for _, row in rows:
        if text := reading.read([row.get(column) for column in columns]):
            found.add(text)
    texts, count, path = found.done(), rows.count, table.name
    if not texts:
        raise DataError(f"{path} has no row with text; expected texts in the column {', '.join(columns)}.")
    keys = digests(texts)
    first = np.sort(np.unique(keys, return_index=True)[1])
    first = first[~np.isin(keys[first], digests(training.texts))]
    if not len(first):
        raise DataError(f"{path}: all texts have labels in {training.source}; expected others.")
    left_out = {
        "without text": count - len(texts),
        "that occur before or have a label": len(texts) - len(first),
    }
    notes = [f"{number} {what}" for what, number in left_out.items() if number]
    return Unlabelled(
        pick(texts, first),
        (f"of {count} rows without labels, these were left out: {', '.join(notes)}",) if notes else (),
    )
