"""spaCy: training examples with `cats` or `entities`, and its older JSON format.

https://spacy.io/api/data-formats
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from keras_peft.data.exports._left_out import LeftOut
from keras_peft.data.readers import Row
from keras_peft.errors import DataError

NAME = "spaCy"


def recognises(rows: Sequence[Row]) -> bool:
    """Reports whether the rows have categories with scores, or are documents in paragraphs."""
    return all(isinstance(row.get("cats"), dict) for row in rows) or "paragraphs" in rows[0]


def convert(rows: Iterable[Row]) -> Iterator[Row | LeftOut]:
    """Yields the rows with their categories as the label.

    Raises:
        DataError: If the rows are in the format of spaCy 2.
    """
    for row in rows:
        if "paragraphs" in row:
            raise DataError(
                "This is the JSON training format of spaCy 2; convert it with `spacy convert`, and save its documents "
                "as JSON Lines with the columns text and entities."
            )
        yield {
            **{name: value for name, value in row.items() if name != "cats"},
            "label": _likely(row["cats"]),
        }


def _likely(cats: Any) -> list[str] | None:
    """Returns the categories with a score of at least one half; None if there are no scores."""
    if not isinstance(cats, dict):
        return None
    return [label for label, score in cats.items() if isinstance(score, int | float) and score >= 0.5]
