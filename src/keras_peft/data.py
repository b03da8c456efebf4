"""Labelled text: from a file to checked examples, and from those to two sides of a split.

`readers/` reads the files. Every fault in one is gathered and reported at once, with
row numbers counted from 1 (a header is not a row).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import tasks
from keras_peft.errors import DataError, did_you_mean, listed
from keras_peft.readers import Row, read_rows
from keras_peft.tasks import Label, Task, Text

if TYPE_CHECKING:
    import numpy as np

LONG_TEXT = ("cut", "window")
"""What can be done with texts that are too long."""


@dataclass(frozen=True)
class Examples:
    """Texts with their labels.

    Attributes:
        texts: The texts, without space at their ends, none of them empty: strings, or
            what else the task reads.
        labels: As many labels, in the task's form.
        source: Where they come from, for people.
        task: What the labels are.
        columns: Names of the columns of the texts, then that of the labels.
        notes: What was left out and why, for people.
    """

    texts: tuple[Any, ...]
    labels: tuple[Any, ...]
    source: str
    task: type[Task] = field(default_factory=lambda: tasks.find("single-label"))
    columns: tuple[str, ...] = ("text", "label")
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def pick(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Returns the examples at the given positions."""
        return replace(
            self,
            texts=tuple(self.texts[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
        )

    @property
    def sha256(self) -> str:
        """Fingerprint of texts and labels in their order."""
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
    """Reads labelled texts, and refuses what cannot be meant.

    Args:
        path: What `read_rows` reads.
        task: What the labels are; by default it is read from the columns.
        text_column: Name of the column with the texts, or two names with a comma
            between for pairs; `text`, `text_a,text_b` or `tokens` by default.
        label_column: Name of the column with the labels; `label`, `labels` or `tags` by
            default.
        skip_bad_rows: Leave out rows without text or label and texts that carry two
            labels, and note it, instead of raising.

    Returns:
        The examples in the order of the file.

    Raises:
        DataError: If the file cannot be read, a column is missing, or rows are
            bad; every fault is in the message.

    Example:
        >>> examples = read_examples("conversations.jsonl")
        >>> Counter(examples.labels)
        Counter({'news': 60, 'opinion': 60, 'comparison': 60, 'question': 60})
    """
    path = Path(path)
    known = tasks.find(task) if isinstance(task, str) else task
    columns = [name.strip() for name in text_column.split(",")] if text_column else []
    chosen: type[Task] | None = None
    texts: list[Text] = []
    labels: list[Label | None] = []
    for rows in read_rows(path):
        if chosen is None:
            chosen, text_columns, label_name = tasks.choose(
                rows, known, text_columns=columns, label_column=label_column
            )
            for column, flag in (
                *((name, "--text-column") for name in text_columns),
                (label_name, "--label-column"),
            ):
                check_column(rows[0], column, path, flag)
        texts += [chosen.read_text([row.get(name) for name in text_columns]) for row in rows]
        labels += [chosen.read_label(row.get(label_name)) for row in rows]
    if chosen is None:
        raise DataError(f"{path} has no rows; expected labelled texts below its header.")
    missing = {n for n, text in enumerate(texts, 1) if not text}
    faults = {
        "no text": sorted(missing),
        "no label": [n for n, label in enumerate(labels, 1) if label is None],
        "half a character, as of a cut emoji": [
            n
            for n, pair in enumerate(zip(texts, labels, strict=True), 1)
            if not all(map(is_unicode, _strings(pair)))
        ],
    }
    if chosen.reads_words:
        faults["not a tag for each word"] = [
            n
            for n, (text, label) in enumerate(zip(texts, labels, strict=True), 1)
            if text and isinstance(label, tuple) and len(text) != len(label)
        ]
    bad = {number for numbers in faults.values() for number in numbers}
    found = [_rows_have(numbers, fault) for fault, numbers in faults.items() if numbers]
    if chosen.contradicts and (contradictions := _contradictions(texts, labels, bad)):
        found.append(_describe_contradictions(contradictions))
        bad |= {number for numbers in contradictions.values() for _, number in numbers}
    if found and not skip_bad_rows:
        raise DataError(
            f"{path}: of {len(texts)} rows, {'; '.join(found)}. Mend them, or leave them out with "
            f"--skip-bad-rows.{_meant(chosen, labels, known)}"
        )
    kept = [n for n in range(len(texts)) if n + 1 not in bad]
    if not kept:
        raise DataError(f"{path}: not one of {len(texts)} rows has both a text and a label.")
    notes = (f"{len(bad)} of {len(texts)} rows were left out: {'; '.join(found)}",) if bad else ()
    return Examples(
        texts=tuple(texts[n] for n in kept),
        labels=tuple(labels[n] for n in kept),
        source=str(path),
        task=chosen,
        columns=(*text_columns, label_name),
        notes=notes,
    )


def check_trainable(examples: Examples) -> Examples:
    """Checks that there is something to learn, and drops what is there twice.

    Returns:
        The examples without exact duplicates, which would leak over a split.

    Raises:
        DataError: If there is too little, such as a label with a single example.
    """
    first: dict[Any, int] = {}
    for row, pair in enumerate(zip(examples.texts, examples.labels, strict=True)):
        first.setdefault(pair, row)
    unique = examples.pick(list(first.values()))
    if dropped := len(examples) - len(unique):
        were = "duplicate was" if dropped == 1 else "duplicates were"
        unique = replace(unique, notes=(*unique.notes, f"{dropped} exact {were} left out"))
    examples.task.check(unique.labels, [1 + row for row in first.values()], examples.source)
    return unique


def split(examples: Examples, fraction: float, *, seed: int) -> tuple[Examples, Examples]:
    """Splits off a share for validation, the same share of every label.

    Every label with two examples keeps at least one on each side; for other tasks, see
    their `strata`.

    Args:
        examples: From `check_trainable`.
        fraction: Share for validation, between 0 and 1.
        seed: The same seed gives the same split.

    Returns:
        The examples to train on and those to validate on, in the order of the file.

    Raises:
        DataError: If the fraction is not between 0 and 1.
    """
    import numpy as np

    if not 0 < fraction < 1:
        raise DataError(f"The validation share must be between 0 and 1, got {fraction}.")
    generator = np.random.default_rng(seed)
    by_label = defaultdict(list)
    for row, label in enumerate(examples.task.strata(examples.labels)):
        by_label[label].append(row)
    held_out: set[int] = set()
    for label in sorted(by_label, key=str):
        rows = generator.permutation(by_label[label])
        held_out.update(rows[: min(len(rows) - 1, max(1, round(fraction * len(rows))))].tolist())
    if not held_out:
        raise DataError(
            f"{examples.source}: {len(examples)} rows are too few to hold out some for validation; add more."
        )
    return (
        examples.pick([row for row in range(len(examples)) if row not in held_out]),
        examples.pick(sorted(held_out)),
    )


def check_column(row: Row, column: str, path: Path, flag: str) -> None:
    """Checks that a table has a column.

    Raises:
        DataError: If it has not, with the columns it has.
    """
    if column not in row:
        raise DataError(
            f"{path} has no column {column!r}; it has: {listed(row)}.{did_you_mean(column, row)} Name the "
            f"right one with {flag}."
        )


def is_unicode(text: str) -> bool:
    """Tells whether a string can be written down: JSON's escapes allow half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_text(value: object) -> bool:
    """Tells whether a value is a string that has something in it."""
    return isinstance(value, str) and bool(value.strip()) and is_unicode(value)


def _contradictions(
    texts: Sequence[Text], labels: Sequence[Any], bad: set[int]
) -> dict[Text, list[tuple[str, int]]]:
    seen: dict[Text, list[tuple[str, int]]] = defaultdict(list)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        if number not in bad:
            seen[text].append((label, number))
    return {text: rows for text, rows in seen.items() if len({label for label, _ in rows}) > 1}


def _describe_contradictions(found: dict[Text, list[tuple[str, int]]]) -> str:
    shown = (
        "rows " + ", ".join(f"{number} ({label})" for label, number in rows[:4]) for rows in found.values()
    )
    count = "1 text carries" if len(found) == 1 else f"{len(found)} texts carry"
    return f"{count} two labels: {listed(shown, most=5)}"


def _strings(value: Any) -> Iterator[str]:
    """All strings in a text or label."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _strings(one)


def _meant(task: type[Task], labels: Sequence[Any], known: type[Task] | None) -> str:
    """Adds what the task was taken to be, where nobody named it and no label fits it."""
    if known is None and all(label is None for label in labels):
        return f" The task was taken to be {task.name}; name another with --task."
    return ""


def _rows_have(numbers: Sequence[int], fault: str) -> str:
    if len(numbers) == 1:
        return f"1 row has {fault} (row {numbers[0]})"
    return f"{len(numbers)} rows have {fault} (rows {listed(numbers)})"
