"""Labelled text: from a file to checked examples, and from those to two sides of a split.

`readers/` reads the files. Every fault in one is gathered and reported at once, with
row numbers counted from 1 (a header is not a row).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import DataError, did_you_mean, listed
from keras_peft.readers import Row, read_rows

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Examples:
    """Texts with their labels.

    Attributes:
        texts: The texts, without space at their ends, none of them empty.
        labels: As many labels.
        source: Where they come from, for people.
        notes: What was left out and why, for people.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    source: str
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
    text_column: str = "text",
    label_column: str = "label",
    skip_bad_rows: bool = False,
) -> Examples:
    """Reads labelled texts, and refuses what cannot be meant.

    Args:
        path: What `read_rows` reads.
        text_column: Name of the column with the texts.
        label_column: Name of the column with the labels.
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
    rows = [row for batch in read_rows(path) for row in batch]
    if not rows:
        raise DataError(f"{path} has no rows; expected labelled texts below its header.")
    for column, flag in ((text_column, "--text-column"), (label_column, "--label-column")):
        check_column(rows[0], column, path, flag)
    texts = [_as_text(row.get(text_column)) for row in rows]
    labels = [_as_label(row.get(label_column)) for row in rows]
    faults = {
        "no text": [n for n, text in enumerate(texts, 1) if not text],
        "no label": [n for n, label in enumerate(labels, 1) if not label],
        "half a character, as of a cut emoji": [
            n for n, pair in enumerate(zip(texts, labels, strict=True), 1) if not all(map(is_unicode, pair))
        ],
    }
    bad = {number for numbers in faults.values() for number in numbers}
    contradictions = _contradictions(texts, labels, bad)
    found = [_rows_have(numbers, fault) for fault, numbers in faults.items() if numbers]
    if contradictions:
        found.append(_describe_contradictions(contradictions))
        bad |= {number for numbers in contradictions.values() for _, number in numbers}
    if found and not skip_bad_rows:
        raise DataError(
            f"{path}: of {len(rows)} rows, {'; '.join(found)}. Mend them, or leave them out with "
            "--skip-bad-rows."
        )
    kept = [n for n in range(len(rows)) if n + 1 not in bad]
    if not kept:
        raise DataError(f"{path}: not one of {len(rows)} rows has both a text and a label.")
    notes = (f"{len(bad)} of {len(rows)} rows were left out: {'; '.join(found)}",) if bad else ()
    return Examples(
        tuple(texts[n] for n in kept), tuple(labels[n] for n in kept), source=str(path), notes=notes
    )


def check_trainable(examples: Examples) -> Examples:
    """Checks that a classifier can be trained, and drops what is there twice.

    Returns:
        The examples without exact duplicates, which would leak over a split.

    Raises:
        DataError: If there is one label only, or a label with a single example.
    """
    first: dict[tuple[str, str], int] = {}
    for row, pair in enumerate(zip(examples.texts, examples.labels, strict=True)):
        first.setdefault(pair, row)
    unique = examples.pick(list(first.values()))
    if dropped := len(examples) - len(unique):
        were = "duplicate was" if dropped == 1 else "duplicates were"
        unique = replace(unique, notes=(*unique.notes, f"{dropped} exact {were} left out"))
    counts = Counter(unique.labels)
    if len(counts) == 1:
        raise DataError(
            f"{examples.source}: all {len(examples)} rows have the label {unique.labels[0]!r}; a classifier "
            "needs at least two labels."
        )
    if single := [label for label, count in counts.items() if count == 1]:
        rows = [1 + examples.labels.index(label) for label in single]
        where = listed(f"{label!r} (row {row})" for label, row in zip(single, rows, strict=True))
        raise DataError(
            f"{examples.source}: seen only once: {where}; each label needs at least two different texts, one to "
            "train on and one to validate on. Add more, or remove it."
        )
    return unique


def check_known_labels(examples: Examples, known: Sequence[str]) -> None:
    """Checks that every label is one that is known.

    Raises:
        DataError: If a label is not.
    """
    expected = set(known)
    unknown = Counter(label for label in examples.labels if label not in expected)
    if unknown:
        words = listed(f"{label!r} ({count} rows)" for label, count in unknown.most_common())
        raise DataError(
            f"{examples.source} has labels that the classifier does not know: {words}; it knows "
            f"{listed(known, most=40)}."
        )


def split(examples: Examples, fraction: float, *, seed: int) -> tuple[Examples, Examples]:
    """Splits off a share for validation, the same share of every label.

    Every label keeps at least one example on each side.

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
    for row, label in enumerate(examples.labels):
        by_label[label].append(row)
    held_out: set[int] = set()
    for label in sorted(by_label):
        rows = generator.permutation(by_label[label])
        held_out.update(rows[: min(len(rows) - 1, max(1, round(fraction * len(rows))))].tolist())
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


def _as_text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _as_label(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else ""


def _contradictions(
    texts: Sequence[str], labels: Sequence[str], bad: set[int]
) -> dict[str, list[tuple[str, int]]]:
    seen: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        if number not in bad:
            seen[text].append((label, number))
    return {text: rows for text, rows in seen.items() if len({label for label, _ in rows}) > 1}


def _describe_contradictions(found: dict[str, list[tuple[str, int]]]) -> str:
    shown = (
        "rows " + ", ".join(f"{number} ({label})" for label, number in rows[:4]) for rows in found.values()
    )
    count = "1 text carries" if len(found) == 1 else f"{len(found)} texts carry"
    return f"{count} two labels: {listed(shown, most=5)}"


def _rows_have(numbers: Sequence[int], fault: str) -> str:
    if len(numbers) == 1:
        return f"1 row has {fault} (row {numbers[0]})"
    return f"{len(numbers)} rows have {fault} (rows {listed(numbers)})"
