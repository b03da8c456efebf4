"""The rows of a file as texts and labels, in one form for all checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.data.duplicates import MOST_COMPARED, near_pairs
from keras_peft.data.examples import check_column
from keras_peft.data.labels import are_numbers, labels_of
from keras_peft.data.readers import Row, read_rows
from keras_peft.errors import DataError, did_you_mean, listed
from keras_peft.store import LABELS, TEXTS, Collector

if TYPE_CHECKING:
    import numpy as np

SIMILARITY = 0.9


@dataclass(frozen=True)
class LabelledRows:
    """Rows of labelled text.

    Attributes:
        source: Name of the data source.
        text_form: "text", "pair" or "tokens".
        label_form: "label", "labels", "tags" or "number".
        texts: Texts without surrounding whitespace, with both texts of a pair or all tokens joined;
            "" if a row has no text.
        sides: Both texts of a pair; otherwise the text alone.
        labels: Labels of each row, without surrounding whitespace; empty if a row has no label.
        written: Labels of each row as they appear in the file.
        uneven: Positions of rows whose number of tags differs from their number of tokens.
    """

    source: str
    text_form: str
    label_form: str
    texts: Sequence[str]
    sides: Sequence[tuple[str, ...]]
    labels: Sequence[tuple[str, ...]]
    written: Sequence[tuple[str, ...]]
    uneven: tuple[int, ...] = ()

    @property
    def has_classes(self) -> bool:
        """Whether the labels are class names rather than numbers."""
        return self.label_form != "number"

    @cached_property
    def counts(self) -> Counter[str]:
        """Number of occurrences of each label."""
        return Counter(label for labels in self.labels for label in labels)


@dataclass(frozen=True)
class NamedTokenizer:
    """Tokenizer and maximum length of a base model.

    Attributes:
        name: Name of the base model.
        tokenizer: Content of its tokenizer.json.
        max_length: Maximum tokens that the base model reads.
    """

    name: str
    tokenizer: str
    max_length: int


@dataclass(frozen=True)
class LabelProbabilities:
    """Label probabilities from a trained bundle.

    Attributes:
        name: Name of the bundle, for display.
        labels: Labels that the bundle predicts.
        probabilities: Function from texts to the probabilities of the labels, (texts, labels).
    """

    name: str
    labels: Sequence[str]
    probabilities: Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Subject:
    """Input of the checks.

    Attributes:
        rows: The rows to check.
        validation: Validation rows, which must not overlap with `rows`.
        base: Base model to train.
        classifier: Trained classifier for such rows.
        similarity: Cosine similarity from which two texts are near duplicates.
    """

    rows: LabelledRows
    base: NamedTokenizer
    validation: LabelledRows | None = None
    classifier: LabelProbabilities | None = None
    similarity: float = SIMILARITY

    @cached_property
    def pairs(self) -> np.ndarray:
        """Positions of near duplicates, (pairs, 2); validation rows are numbered after the checked rows."""
        if self.validation is None:
            return near_pairs(self.rows.texts, self.similarity)
        every = Collector(TEXTS)
        for text in chain(self.rows.texts, self.validation.texts):
            every.add(text)
        return near_pairs(every.done(), self.similarity)

    @property
    def compared(self) -> tuple[int, int]:
        """Number of texts compared for near duplicates, and total number of texts."""
        every = len(self.rows.texts) + (len(self.validation.texts) if self.validation else 0)
        return min(MOST_COMPARED, every), every


def read_labelled(data: str | Path, text_column: str, label_column: str) -> LabelledRows:
    """Reads the rows of a file.

    Args:
        data: File or folder in a format that `read_rows` supports.
        text_column: Name of the text column.
        label_column: Name of the label column.

    Returns:
        The rows, including unusable ones.

    Raises:
        DataError: If the file cannot be read, or has no rows, text column or label column.
    """
    path = Path(data)
    text_form = label_form = ""
    texts, sides, labels, written = (Collector(form) for form in (TEXTS, TEXTS, LABELS, LABELS))
    uneven: list[int] = []
    rows = (row for batch in read_rows(path) for row in batch)
    for place, row in enumerate(rows):
        if not place:
            text_form = _text_form(row, text_column, path)
            label_form = _label_form(row, label_column, path)
            columns = {"text": [text_column], "pair": ["text_a", "text_b"], "tokens": ["tokens"]}[text_form]
        own = tuple(_text(row.get(column)) for column in columns)
        sides.add(own)
        texts.add("\n".join(side for side in own if side))
        given = labels_of(row.get(label_column if label_form == "label" else label_form))
        written.add(given)
        labels.add(tuple(label.strip() for label in given if label.strip()))
        tags, tokens = row.get("tags"), row.get("tokens")
        if isinstance(tags, list) and isinstance(tokens, list) and len(tags) != len(tokens):
            uneven.append(place)
    if not text_form:
        raise DataError(f"{path} has no rows; expected labelled texts.")
    found = labels.done()
    return LabelledRows(
        source=str(data),
        text_form=text_form,
        label_form="number" if label_form == "label" and are_numbers(found) else label_form,
        texts=texts.done(),
        sides=sides.done(),
        labels=found,
        written=written.done(),
        uneven=tuple(uneven),
    )


def _text_form(row: Row, column: str, path: Path) -> str:
    if column in row or column != "text":
        check_column(row, column, path, "text_column")
        return "text"
    if "text_a" in row and "text_b" in row:
        return "pair"
    if "tokens" in row:
        return "tokens"
    raise DataError(
        f"{path} has no column 'text', nor 'text_a' and 'text_b', nor 'tokens'; it has: {listed(row)}."
        f"{did_you_mean('text', row)} Set `text_column` to the right one."
    )


def _label_form(row: Row, column: str, path: Path) -> str:
    if column in row or column != "label":
        check_column(row, column, path, "label_column")
        return "label"
    for form in ("labels", "tags"):
        if form in row:
            return form
    raise DataError(
        f"{path} has no column 'label', 'labels' or 'tags'; it has: {listed(row)}.{did_you_mean('label', row)} "
        "Set `label_column` to the right one."
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = " ".join(token for token in value if isinstance(token, str))
    return value.strip() if isinstance(value, str) else ""
