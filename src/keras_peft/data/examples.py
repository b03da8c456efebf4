"""Reads labelled text into validated examples and splits them for training and validation.

`reading` decides what the rows mean. All faults of a file are collected and reported together, with row
numbers counted from 1; a header does not count as a row.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from keras_peft import tasks
from keras_peft.data import reading
from keras_peft.data.duplicates import contradictions, digests
from keras_peft.data.reading import Reading
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.data.tables import Data
from keras_peft.errors import DataError, listed
from keras_peft.inputs.input import Input, Text
from keras_peft.inputs.strings import is_unicode
from keras_peft.store import pick
from keras_peft.tasks import Label, Task

if TYPE_CHECKING:
    import numpy as np

# Faults that make a row unusable.
_NO_TEXT, _NO_LABEL = "no text", "no label"
_HALF, _UNEVEN = "an unpaired surrogate", "a different number of tags and words"


@dataclass(frozen=True)
class Examples:
    """Texts with their labels.

    Attributes:
        texts: Non-empty texts without surrounding whitespace: strings, or the type that the task
            reads. A tuple, or a file-backed sequence if there are many.
        labels: One label per text, in the form that the task uses.
        source: Name of the data source, for messages.
        task: Task that the labels belong to.
        columns: Names of the text columns, followed by the name of the label column.
        notes: Human-readable notes on rows that were left out.
        reading: How the data was read, or None if the examples were not read.
        elsewhere: Labels of rows that are not among these, but whose labels the task must know; see `knowing`.
    """

    texts: Sequence[Any]
    labels: Sequence[Any]
    source: str
    task: type[Task] = field(default_factory=lambda: tasks.find("single-label"))
    columns: tuple[str, ...] = ("text", "label")
    notes: tuple[str, ...] = ()
    reading: Reading | None = field(default=None, compare=False)
    elsewhere: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def pick(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Returns the examples at the given positions.

        Args:
            rows: Positions, counted from 0.
        """
        return replace(self, texts=pick(self.texts, rows), labels=pick(self.labels, rows))

    def knowing(self, others: Examples) -> Examples:
        """Returns these examples for a task that also knows the labels of others, which are scored and not trained on.

        Args:
            others: Other examples of the same data, such as a fold with a label that no other row has.
        """
        task = self.trained_task()
        return replace(
            self, elsewhere=(*self.elsewhere, *(one for one in others.labels if task.unknown([one])))
        )

    def trained_task(self) -> Task:
        """Creates the task that is trained on the examples."""
        return self.task.from_labels([*self.labels, *self.elsewhere] if self.elsewhere else self.labels)

    @property
    def input(self) -> Input:
        """Input of the task, with the columns that the texts were read from."""
        return self.task.input.with_columns(self.columns[:-1])

    @property
    def sha256(self) -> str:
        """SHA-256 of the texts and labels in their order, in hexadecimal."""
        digest = hashlib.sha256()
        for pair in zip(self.texts, self.labels, strict=True):
            digest.update(json.dumps(pair).encode())
        return digest.hexdigest()


def read_examples(
    data: Data,
    *,
    task: type[Task] | Task | str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    label_names: str | Sequence[str] | None = None,
    label_separator: str | None = None,
    merge_labels: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    known: Sequence[str] = (),
) -> Examples:
    """Reads labelled texts and rejects rows that cannot be used.

    Args:
        data: A file or folder that `read_table` reads, or data in memory: a list of dicts or of (text, label)
            pairs, a dict of columns, or a frame of pandas, Polars, Arrow or Hugging Face Datasets.
        task: Task class, trained task or name of a task; inferred from the columns and the labels by default.
        text_column: Name of the text column, or two comma-separated names for pairs. Found by its name by
            default, such as `text`, `text_a,text_b` or `tokens`.
        label_column: Name of the label column. Found by its name by default, such as `label`, `labels` or
            `tags`.
        label_columns: Names of columns that contain a 0 or 1 for each label, separated by commas. Found by
            their values if there is no label column.
        label_names: Names of labels that are given by their position or number, separated by commas.
        label_separator: Separator of several labels in a cell; detected by default.
        merge_labels: "case" to read labels that differ only in upper and lower case as one label.
        separator: Separator of the values in a CSV or TSV file; detected by default.
        skip_bad_rows: Whether to leave out unusable rows and texts with contradictory labels, and
            to record them in `notes`, instead of raising an error.
        known: Labels that keep their spelling, such as those of the training data.

    Returns:
        The examples, in file order.

    Raises:
        DataError: If the data cannot be read, a column is missing, or rows are unusable. The
            message lists all problems.

    Example:
        >>> examples = keras_peft.read_examples("conversations.jsonl")
        >>> Counter(examples.labels)
        Counter({'news': 60, 'opinion': 60, 'comparison': 60, 'question': 60})
        >>> examples.reading.line
        'JSON Lines; text from "text", labels from "label"; single-label (one label in each row), 4 labels, 240 rows'
    """
    import numpy as np

    chosen, own = _known_task(task)
    options = ReadingOptions.of(
        {
            "text_column": text_column,
            "label_column": label_column,
            "label_columns": label_columns,
            "label_names": label_names,
            "label_separator": label_separator,
            "merge_labels": merge_labels,
            "separator": separator,
        }
    )
    read = reading.read(data, task=chosen, known=known or own, options=options)
    source, count = read.reading.source, len(read.texts)
    faults: dict[str, list[int]] = {fault: [] for fault in (_NO_TEXT, _NO_LABEL, _HALF, _UNEVEN)}
    bad = set[int]()
    for place, (text, label) in enumerate(zip(read.texts, read.labels, strict=True)):
        why = [read.faults[place]] if place in read.faults else _faults(read.reading.task, text, label)
        for fault in why:
            faults.setdefault(fault, []).append(read.numbers[place])
            bad.add(place)
    fine = np.setdiff1d(np.arange(count), list(bad))
    examples = Examples(
        pick(read.texts, fine),
        pick(read.labels, fine),
        source,
        task=read.reading.task,
        columns=(*read.reading.columns.texts, read.reading.columns.label),
        reading=read.reading,
    )
    found = [_rows_have(numbers, fault) for fault, numbers in faults.items() if numbers]
    torn = [
        group
        for group in contradictions(examples.texts, examples.labels)
        if examples.task.contradict([examples.labels[place] for place in group])
    ]
    if torn:
        numbers = np.array(read.numbers)[fine]
        found.append(_describe_contradictions(examples.labels, torn, numbers))
        at = np.concatenate(torn)
        bad.update(fine[at].tolist())
        examples = examples.pick(np.delete(np.arange(len(examples)), at))
    if found and not skip_bad_rows:
        raise DataError(
            f"{source}: of {count} rows, {'; '.join(found)}. Fix them, or skip them with "
            f"`skip_bad_rows=True`. They were read as: {read.reading.line}."
        )
    if not examples:
        raise DataError(
            f"{source}: none of the {count} rows has both a text and a label. They were read as: {read.reading.line}."
        )
    notes = (f"{len(bad)} of {count} rows were skipped: {'; '.join(found)}",) if bad else ()
    return replace(examples, notes=(*read.reading.notes, *notes))


def check_trainable(examples: Examples) -> Examples:
    """Checks that examples can be trained on, and removes exact duplicates.

    Args:
        examples: The examples to check.

    Returns:
        The examples without exact duplicates, which would leak from one side of a split to the other.

    Raises:
        DataError: If there are too few examples, such as a label with a single one.
    """
    import numpy as np

    pairs = zip(examples.texts, examples.labels, strict=True)
    first = np.sort(np.unique(digests(pairs), return_index=True)[1])
    unique = examples
    if dropped := len(examples) - len(first):
        were = "duplicate was" if dropped == 1 else "duplicates were"
        notes = (*examples.notes, f"{dropped} exact {were} removed")
        unique = replace(examples.pick(first), notes=notes)
    examples.task.check(unique.labels, array("q", 1 + first), examples.source)
    return unique


def split(examples: Examples, fraction: float, *, seed: int) -> tuple[Examples, Examples]:
    """Splits examples into a training and a validation set, stratified by label.

    Every label with at least two examples keeps at least one in each set. For tasks other than
    single-label, see `Task.strata`; each label is then in the training set.

    Args:
        examples: Examples from `check_trainable`.
        fraction: Fraction of the examples for validation, between 0 and 1.
        seed: Random seed; the same seed gives the same split.

    Returns:
        The training examples and the validation examples, each in file order.

    Raises:
        DataError: If the fraction is not between 0 and 1, or there are too few examples to hold
            any out.
    """
    import numpy as np

    held_out = held_out_rows(examples, fraction, seed=seed)
    return examples.pick(np.flatnonzero(~held_out)), examples.pick(np.flatnonzero(held_out))


def held_out_rows(examples: Examples, fraction: float, *, seed: int) -> np.ndarray:
    """Returns which examples `split` holds out, (rows,) bool; see there."""
    import numpy as np

    if not 0 < fraction < 1:
        raise DataError(f"The validation fraction must be between 0 and 1, got {fraction}.")
    held_out = np.zeros(len(examples), bool)
    for rows in by_stratum(examples, seed=seed):
        held_out[rows[: min(len(rows) - 1, max(1, round(fraction * len(rows))))]] = True
    _teach_all(examples, held_out)
    if not held_out.any():
        raise DataError(
            f"{examples.source}: {len(examples)} rows are too few to hold any out for validation; add more."
        )
    return held_out


def _teach_all(examples: Examples, held_out: np.ndarray) -> None:
    """Trains on a row of each label that only held-out rows have: one that occurs only with rarer ones."""
    import numpy as np

    rows = np.flatnonzero(held_out)
    task = examples.task.from_labels(pick(examples.labels, np.flatnonzero(~held_out)))
    labels = pick(examples.labels, rows)
    untaught = set(task.unknown(labels))
    for row, label in zip(rows, labels, strict=True) if untaught else ():
        if own := untaught.intersection(task.unknown([label])):
            held_out[row] = False
            untaught -= own


def fold_numbers(examples: Examples, folds: int, *, seed: int) -> np.ndarray:
    """Assigns the examples to folds with the same share of every label.

    Args:
        examples: Examples from `check_trainable`.
        folds: Number of folds.
        seed: Random seed; the same seed gives the same folds.

    Returns:
        The fold of each example, (rows,) integers below `folds`.
    """
    import numpy as np

    numbers = np.empty(len(examples), np.int64)
    numbers[np.concatenate(list(by_stratum(examples, seed=seed)))] = np.arange(len(examples)) % folds
    return numbers


def by_stratum(examples: Examples, *, seed: int) -> Iterator[np.ndarray]:
    """Yields the positions of the examples in each stratum, in random order.

    Args:
        examples: The examples to group.
        seed: Random seed of the order.

    Yields:
        One integer array (rows,) per stratum; see `Task.strata`.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    numbers: dict[Hashable, int] = {}
    strata = np.array(
        [numbers.setdefault(one, len(numbers)) for one in examples.task.strata(examples.labels)], np.int32
    )
    for key in sorted(numbers, key=str):
        yield generator.permutation(np.flatnonzero(strata == numbers[key]))


def _known_task(name: str | type[Task] | Task | None) -> tuple[type[Task] | None, tuple[str, ...]]:
    """Returns the class of a task and its labels, from its name, its class or a trained task."""
    if name is None:
        return None, ()
    if isinstance(name, str):
        return tasks.find(name), ()
    return (name, ()) if isinstance(name, type) else (type(name), name.labels)


def _faults(task: type[Task], text: Text, label: Label | None) -> Iterator[str]:
    """Yields the faults of a row."""
    if not text:
        yield _NO_TEXT
    if label is None:
        yield _NO_LABEL
    if not all(map(is_unicode, _strings((text, label)))):
        yield _HALF
    if text and label is not None and not task.accepts(text, label):
        yield _UNEVEN


def _describe_contradictions(labels: Sequence[Any], found: Sequence[np.ndarray], numbers: np.ndarray) -> str:
    shown = (
        "rows " + ", ".join(f"{numbers[place]} ({labels[place]})" for place in group[:4]) for group in found
    )
    count = "1 text has" if len(found) == 1 else f"{len(found)} texts have"
    return f"{count} contradictory labels: {listed(shown, most=5)}"


def _strings(value: Any) -> Iterator[str]:
    """Yields all strings in a text or label."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _strings(one)


def _rows_have(numbers: Sequence[int], fault: str) -> str:
    if len(numbers) == 1:
        return f"1 row has {fault} (row {numbers[0]})"
    return f"{len(numbers)} rows have {fault} (rows {listed(numbers)})"
