"""Reads labelled text into validated examples and splits them for training and validation.

`readers/` parses the files. All faults of a file are collected and reported together, with row
numbers counted from 1; a header does not count as a row.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import tasks
from keras_peft.data.duplicates import contradictions, digests
from keras_peft.data.readers import Row, read_rows
from keras_peft.errors import DataError, did_you_mean, listed
from keras_peft.inputs.input import Input, Text
from keras_peft.inputs.strings import is_unicode
from keras_peft.store import LABELS, TEXTS, Collector, pick
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
    """

    texts: Sequence[Any]
    labels: Sequence[Any]
    source: str
    task: type[Task] = field(default_factory=lambda: tasks.find("single-label"))
    columns: tuple[str, ...] = ("text", "label")
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def pick(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Returns the examples at the given positions.

        Args:
            rows: Positions, counted from 0.
        """
        return replace(self, texts=pick(self.texts, rows), labels=pick(self.labels, rows))

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
    path: str | Path,
    *,
    task: type[Task] | str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    skip_bad_rows: bool = False,
) -> Examples:
    """Reads labelled texts and rejects rows that cannot be used.

    Args:
        path: A .csv, .tsv, .json, .jsonl, .parquet or .arrow file, or a folder saved by Hugging
            Face Datasets.
        task: Task class or name of a task; inferred from the columns by default.
        text_column: Name of the text column, or two comma-separated names for pairs. Defaults to
            `text`, `text_a,text_b` or `tokens`.
        label_column: Name of the label column. Defaults to `label`, `labels` or `tags`.
        skip_bad_rows: Whether to leave out unusable rows and texts with contradictory labels, and
            to record them in `notes`, instead of raising an error.

    Returns:
        The examples, in file order.

    Raises:
        DataError: If the file cannot be read, a column is missing, or rows are unusable. The
            message lists all problems.

    Example:
        >>> examples = keras_peft.read_examples("conversations.jsonl")
        >>> Counter(examples.labels)
        Counter({'news': 60, 'opinion': 60, 'comparison': 60, 'question': 60})
    """
    import numpy as np

    path = Path(path)
    known = tasks.find(task) if isinstance(task, str) else task
    columns = [name.strip() for name in text_column.split(",")] if text_column else []
    chosen: type[Task] | None = None
    texts, labels = Collector(TEXTS), Collector(LABELS)
    faults: dict[str, list[int]] = {fault: [] for fault in (_NO_TEXT, _NO_LABEL, _HALF, _UNEVEN)}
    count = 0
    for rows in read_rows(path):
        if chosen is None:
            chosen, text_columns, label_name = tasks.choose(
                rows, known, text_columns=columns, label_column=label_column
            )
            reading = chosen.input.with_columns(text_columns)
            for column, option in (
                *((name, "text_column") for name in text_columns),
                (label_name, "label_column"),
            ):
                check_column(rows[0], column, path, option)
        for row in rows:
            count += 1
            text = reading.read([row.get(name) for name in text_columns])
            label = chosen.read_label(row.get(label_name))
            if own := list(_faults(chosen, text, label)):
                for fault in own:
                    faults[fault].append(count)
            else:
                texts.add(text)
                labels.add(label)
    if chosen is None:
        raise DataError(f"{path} has no rows; expected labelled texts below its header.")
    examples = Examples(
        texts.done(), labels.done(), str(path), task=chosen, columns=(*text_columns, label_name)
    )
    bad = {number for numbers in faults.values() for number in numbers}
    found = [_rows_have(numbers, fault) for fault, numbers in faults.items() if numbers]
    torn = [
        group
        for group in contradictions(examples.texts, examples.labels)
        if chosen.contradict([examples.labels[place] for place in group])
    ]
    if torn:
        kept = np.setdiff1d(np.arange(1, count + 1), list(bad))
        found.append(_describe_contradictions(examples.labels, torn, kept))
        at = np.concatenate(torn)
        bad.update(kept[at].tolist())
        examples = examples.pick(np.delete(np.arange(len(examples)), at))
    if found and not skip_bad_rows:
        unknown = known is None and len(faults[_NO_LABEL]) == count
        meant = f" The task was inferred as {chosen.name}; set `task` to use another." if unknown else ""
        raise DataError(
            f"{path}: of {count} rows, {'; '.join(found)}. Fix them, or skip them with "
            f"`skip_bad_rows=True`.{meant}"
        )
    if not examples:
        raise DataError(f"{path}: none of the {count} rows has both a text and a label.")
    notes = (f"{len(bad)} of {count} rows were skipped: {'; '.join(found)}",) if bad else ()
    return replace(examples, notes=notes)


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
    single-label, see `Task.strata`.

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

    if not 0 < fraction < 1:
        raise DataError(f"The validation fraction must be between 0 and 1, got {fraction}.")
    held_out = np.zeros(len(examples), bool)
    for rows in by_stratum(examples, seed=seed):
        held_out[rows[: min(len(rows) - 1, max(1, round(fraction * len(rows))))]] = True
    if not held_out.any():
        raise DataError(
            f"{examples.source}: {len(examples)} rows are too few to hold any out for validation; add more."
        )
    return examples.pick(np.flatnonzero(~held_out)), examples.pick(np.flatnonzero(held_out))


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


def check_column(row: Row, column: str, path: Path, option: str) -> None:
    """Checks that a table has a column.

    Args:
        row: A row of the table.
        column: Name of the required column.
        path: Path of the table.
        option: Option that sets the column name, for the message.

    Raises:
        DataError: If the column is missing. The message lists the existing columns.
    """
    if column not in row:
        raise DataError(
            f"{path} has no column {column!r}; it has: {listed(row)}.{did_you_mean(column, row)} Set "
            f"`{option}` to the right one."
        )


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
