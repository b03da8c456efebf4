"""The rows of a file as texts and labels, in one form for all checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from keras_peft.data import reading
from keras_peft.data.duplicates import MOST_COMPARED, near_pairs
from keras_peft.data.examples import Examples
from keras_peft.data.reading import LabelledText
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.data.tables import Data
from keras_peft.store import LABELS, TEXTS, Collector
from keras_peft.tasks import Label, Task

if TYPE_CHECKING:
    import numpy as np

SIMILARITY = 0.9


@dataclass(frozen=True)
class LabelledRows:
    """Rows of labelled text.

    Attributes:
        source: Name of the data source.
        reading: How the rows were read, in one line.
        task: Task of the rows.
        text_form: "text", "pair" or "tokens".
        label_form: "label", "labels", "tags" or "number".
        texts: Texts without surrounding whitespace, with both texts of a pair or all tokens joined;
            "" if a row has no text.
        sides: Both texts of a pair; otherwise the text alone.
        labels: Labels of each row, without surrounding whitespace; empty if a row has no label.
        written: Labels of each row as they appear in the file.
        absent: Positions of rows that were left out because of what an annotation tool says of them.
        uneven: Positions of rows whose number of tags differs from their number of tokens.
    """

    source: str
    reading: str
    task: type[Task]
    text_form: str
    label_form: str
    texts: Sequence[str]
    sides: Sequence[tuple[str, ...]]
    labels: Sequence[tuple[str, ...]]
    written: Sequence[tuple[str, ...]]
    absent: frozenset[int] = frozenset()
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


NO_TOKENIZER = NamedTokenizer("", "", 0)
"""For checks that count no tokens."""


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


def read_labelled(
    data: Data,
    *,
    task: type[Task] | None = None,
    known: Sequence[str] = (),
    options: ReadingOptions | None = None,
) -> LabelledRows:
    """Reads the rows of labelled text, including those that cannot be used.

    Args:
        data: A path, or data in memory.
        task: The task, if it is known.
        known: Labels that keep their spelling.
        options: Options that replace the detection.

    Returns:
        The rows.

    Raises:
        DataError: If the data cannot be read, or has no rows, text column or label column.
    """
    return rows_of(reading.read(data, task=task, known=known, options=options))


def rows_of(read: LabelledText) -> LabelledRows:
    """Returns the rows that were read in the form of the checks.

    Args:
        read: What was read.
    """
    task, columns = read.reading.task, read.reading.columns
    text_form = "tokens" if task.per_word else "pair" if len(columns.texts) > 1 else "text"
    texts, sides, labels, written = (Collector(form) for form in (TEXTS, TEXTS, LABELS, LABELS))
    uneven: list[int] = []
    absent: list[int] = []
    place = -1
    for number, text, label, cell in zip(read.numbers, read.texts, read.labels, read.cells, strict=True):
        place += 1
        while place < number - 1:  # A row that was left out keeps its number.
            absent.append(place)
            place += 1
            sides.add(("",) * len(columns.texts))
            texts.add("")
            labels.add(())
            written.add(())
        if text_form == "tokens":
            own: tuple[str, ...] = (" ".join(text),)
        else:
            own = (text,) if isinstance(text, str) else text
            own = own if text else ("",) * len(columns.texts)
        sides.add(own)
        texts.add("\n".join(side for side in own if side))
        given = _labels_in(label)
        labels.add(given)
        written.add(_written(cell, given))
        if text_form == "tokens" and text and label is not None and not task.accepts(text, label):
            uneven.append(place)
    return LabelledRows(
        source=read.reading.source,
        reading=read.reading.line,
        task=task,
        text_form=text_form,
        label_form=_FORMS[task.name],
        texts=texts.done(),
        sides=sides.done(),
        labels=labels.done(),
        written=written.done(),
        absent=frozenset(absent),
        uneven=tuple(uneven),
    )


def rows_of_examples(examples: Examples) -> LabelledRows:
    """Returns the labels of examples in the form of the checks, without the texts.

    Args:
        examples: The examples.
    """
    labels = tuple(map(_labels_in, examples.labels))
    form = _FORMS[examples.task.name]
    return LabelledRows(examples.source, "", examples.task, "text", form, (), (), labels, labels)


_FORMS = {
    "single-label": "label",
    "pairs": "label",
    "multi-label": "labels",
    "token-labels": "tags",
    "regression": "number",
}


def _labels_in(label: Label | None) -> tuple[str, ...]:
    if label is None:
        return ()
    if isinstance(label, float):
        return (repr(label),)
    return (label,) if isinstance(label, str) else tuple(label)


def _written(cell: Any, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Returns a single label with the spaces around it, which are then reported."""
    if isinstance(cell, str) and len(labels) == 1 and cell.strip() == labels[0]:
        return (cell,)
    return labels
