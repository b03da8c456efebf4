"""Understands a column of labels: which task its values belong to, and what each value means.

All values are looked at before any is read, so that the same value means the same in every row.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_peft import tasks
from keras_peft.data import spans as marked
from keras_peft.data.tag_schemes import scheme_of, to_bio
from keras_peft.errors import OptionError, listed
from keras_peft.tasks import Label, Task

# Separators of labels in a cell; the first that occurs in the column is used. doccano writes "#".
SEPARATORS = ("|", "#", ";", ",")
# Different labels that are remembered to understand a column.
_MOST = 100_000
# From this many different whole numbers, the labels could be ratings.
_RATINGS = 3
_WHOLE = re.compile(r"[+-]?\d+\.0*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+|[+-]?\d+")
_BOOLEANS = {"true", "false"}


@dataclass(frozen=True)
class LabelColumn:
    """How the values of a label column are read.

    Attributes:
        task: Task of the labels.
        why: Why the task was chosen, for display.
        read: Function from a decoded value to the label, or None if the value is none.
        hint: Advice for other readings, or "".
        are_spans: Whether the values are spans of the text.
        scheme: Scheme of the tags, if they are converted to BIO.
    """

    task: type[Task]
    why: str
    read: Callable[[Any], Label | None]
    hint: str = ""
    are_spans: bool = False
    scheme: str | None = None


@dataclass
class _Summary:
    """Facts about the values of a column."""

    rows: int = 0
    missing: int = 0
    singles: Counter[str] = field(default_factory=Counter)
    is_number: bool = True
    has_fraction: bool = False
    has_decimal_comma: bool = False
    has_thousands: bool = False
    lists: int = 0
    lengths: set[int] = field(default_factory=set)
    ones_and_zeros: bool = True
    minus_one: list[int] = field(default_factory=list)
    ascending: bool = True
    descending: bool = True
    last: float | None = None

    def see(self, value: Any) -> None:
        self.rows += 1
        if value is None or (isinstance(value, str) and not value.strip()):
            self.missing += 1
        elif isinstance(value, list):
            self._see_list(value)
        else:
            self._see_single(value)

    def _see_list(self, value: list[Any]) -> None:
        self.lists += 1
        self.lengths.add(len(value))
        binary = all(isinstance(one, bool | int | float) and one in (0, 1) for one in value)
        self.ones_and_zeros = self.ones_and_zeros and bool(value) and binary

    def _see_single(self, value: Any) -> None:
        text = plain_label(value)
        if text is None:
            self.is_number = False
            return
        if text in self.singles or len(self.singles) < _MOST:
            self.singles[text] += 1
        if text == "-1":
            self.minus_one.append(self.rows)
        if isinstance(value, bool):
            self.is_number = False
        elif self.is_number:
            number = _number_in(text)
            self.is_number = number is not None
            self.has_fraction = self.has_fraction or (number is not None and not number.is_integer())
            if number is not None:
                self.ascending = self.ascending and (self.last is None or number >= self.last)
                self.descending = self.descending and (self.last is None or number <= self.last)
                self.last = number
            comma = "," in text
            self.has_decimal_comma = self.has_decimal_comma or comma
            self.has_thousands = self.has_thousands or bool(
                comma and re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+", text)
            )

    @property
    def numbers(self) -> bool:
        """Whether all single values are numbers."""
        return self.is_number and bool(self.singles)


def understand(
    values: Iterable[Any],
    *,
    task: type[Task] | None = None,
    known: Collection[str] = (),
    several: bool = False,
    pairs: bool = False,
    tokens: bool = False,
    label_names: Sequence[str] = (),
    label_separator: str | None = None,
    decimal_comma: bool = False,
    merge_case: bool = False,
) -> LabelColumn:
    """Decides how the values of a label column are read.

    Args:
        values: All values, decoded by `cells.decode`. They are iterated over once.
        task: The task, if it is known.
        known: Labels of a trained classifier, which keep their spelling.
        several: Whether the name of the column says that a row may have several labels.
        pairs: Whether a row has two texts.
        tokens: Whether a row has a list of tokens.
        label_names: Names of labels that are given by position or by number.
        label_separator: Separator of the labels in a cell; detected by default.
        decimal_comma: Whether numbers may have a decimal comma.
        merge_case: Whether labels that differ only in upper and lower case are one label.

    Returns:
        The reading.

    Raises:
        OptionError: If the names do not fit the values.
    """
    summary = _Summary()
    are_spans = True
    some = 0
    tags: set[str] = set()
    for value in values:
        summary.see(value)
        if isinstance(value, list) and value:
            some += 1
            are_spans = are_spans and marked.read_spans(value) is not None
            for one in value:
                if (text := plain_label(one)) is not None and len(tags) < _MOST:
                    tags.add(text)
    are_spans = bool(some and are_spans and not summary.singles)
    if tokens or (task is not None and task.per_word):
        return _tags(tags, summary, label_names, known, are_spans)
    if are_spans and task is None:
        return _tags(tags, summary, label_names, known, True)
    if task is None:
        return _guess(summary, several, pairs, label_names, label_separator, decimal_comma, merge_case)
    if task.name == "regression":
        return LabelColumn(task, "as set", _number_reader(summary, decimal_comma))
    if task.name == "multi-label":
        separator = label_separator or _separator(summary.singles, sure=False)
        return LabelColumn(
            task, "as set", _labels_reader(summary, label_names, separator, merge_case, known), ""
        )
    return LabelColumn(task, "as set", _label_reader(summary, label_names, merge_case, known), "")


def plain_label(value: Any) -> str | None:
    """Returns the label that a single value stands for, or None if it is none.

    Args:
        value: A string, a number or a boolean. Whole numbers have no fraction: 1.0 is "1".
    """
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    return None


def _guess(
    summary: _Summary,
    several: bool,
    pairs: bool,
    label_names: Sequence[str],
    label_separator: str | None,
    decimal_comma: bool,
    merge_case: bool,
) -> LabelColumn:
    multi, single = tasks.find("multi-label"), tasks.find("pairs" if pairs else "single-label")
    if summary.lists:
        one_each = summary.lengths == {1} and not summary.singles and not several
        if not one_each:
            hot = _is_multi_hot(summary)
            why = "a 0 or 1 for each label" if hot else "lists of labels"
            hint = ""
            if hot and not label_names:
                hint = "the labels are named by their position; set `label_names` to name them"
            separator = label_separator or _separator(summary.singles, sure=False)
            return LabelColumn(multi, why, _labels_reader(summary, label_names, separator, merge_case), hint)
        return LabelColumn(single, "lists of one label", _label_reader(summary, label_names, merge_case))
    separator = label_separator or _separator(summary.singles, sure=not several)
    if separator is not None or (several and summary.missing and not summary.numbers):
        why = (
            f"labels separated by {separator!r}"
            if separator
            else "the name of the column, and rows without a label"
        )
        return LabelColumn(multi, why, _labels_reader(summary, label_names, separator, merge_case))
    if summary.numbers and not label_names:
        comma = _reads_decimal_comma(summary, decimal_comma)
        if (summary.has_fraction and not summary.has_decimal_comma) or comma:
            return LabelColumn(
                tasks.find("regression"),
                "numbers with fractions",
                _number_reader(summary, decimal_comma),
                "set `task='single-label'` if they are names of classes",
            )
        if not summary.has_decimal_comma:
            hint = ""
            if len({label.partition(".")[0] for label in summary.singles}) >= _RATINGS:
                hint = "set `task='regression'` if they are ratings or amounts"
            return LabelColumn(
                single,
                "whole numbers as classes" + (", -1 for rows without one" if _missing(summary) else ""),
                _label_reader(summary, label_names, merge_case),
                hint,
            )
    hint = ""
    if unsure := next((one for one in SEPARATORS if _parts_repeat(summary.singles, one)), None):
        hint = f"some labels contain {unsure!r}; set `task='multi-label'` if it separates labels"
    return LabelColumn(single, "one label in each row", _label_reader(summary, label_names, merge_case), hint)


def _is_multi_hot(summary: _Summary) -> bool:
    """Reports whether lists have a 0 or 1 for each label, rather than the numbers of labels."""
    if not summary.lists or not summary.ones_and_zeros or len(summary.lengths) > 1 or summary.singles:
        return False
    return summary.lengths != {1}


def _separator(labels: Counter[str], *, sure: bool) -> str | None:
    """Finds what separates labels in a cell.

    Args:
        labels: The cells.
        sure: Whether the cells themselves must show it: parts also occur in other cells. doccano's "#" is also
            recognised between words without spaces.
    """
    for separator in SEPARATORS:
        joined = [label for label in labels if separator in label]
        if not joined:
            continue
        if not sure:
            return separator
        parts = [[part.strip() for part in label.split(separator)] for label in joined]
        if not all(all(own) for own in parts):
            continue
        if separator == "#" and not any(" " in label for label in joined):
            return separator
        if separator in ("|", ";", "#") and _parts_repeat(labels, separator):
            return separator
    return None


def _parts_repeat(labels: Counter[str], separator: str) -> bool:
    """Reports whether parts of joined labels also occur in different cells."""
    joined = [label for label in labels if separator in label]
    if not joined:
        return False
    counts = Counter(part.strip() for label in labels for part in set(label.split(separator)))
    return any(counts[part.strip()] > 1 for label in joined for part in label.split(separator))


def _merged(labels: Counter[str], known: Collection[str]) -> dict[str, str]:
    """Maps labels that differ only in case to the known spelling, or to the most frequent one."""
    best = {label.casefold(): label for label in known}
    for label, _ in sorted(labels.items(), key=lambda one: (-one[1], one[0])):
        best.setdefault(label.casefold(), label)
    return {label: best[label.casefold()] for label in labels}


def _namer(
    summary: _Summary, names: Sequence[str], merge_case: bool, known: Collection[str] = ()
) -> Callable[[Any], str | None]:
    """Returns the function from a single value to its label."""
    lower = {label.lower() for label in summary.singles}
    booleans = bool(lower) and lower <= _BOOLEANS
    whole = summary.numbers and not summary.has_fraction and not summary.has_decimal_comma
    spelling = _merged(summary.singles, known) if merge_case else {}

    def name(value: Any) -> str | None:
        label = plain_label(value)
        if label is None:
            return None
        if label in known:
            return label
        if booleans:
            label = label.lower()
        if whole and _WHOLE.fullmatch(label):
            label = label.partition(".")[0]
        if names and label.isdigit() and int(label) < len(names):
            return names[int(label)]
        return spelling.get(label, label)

    return name


def _label_reader(
    summary: _Summary, names: Sequence[str], merge_case: bool, known: Collection[str] = ()
) -> Callable[[Any], str | None]:
    name = _namer(summary, names, merge_case, known)
    hot = _is_multi_hot(summary)
    missing = None if "-1" in known else _missing(summary)

    def read(value: Any) -> str | None:
        if isinstance(value, list):
            if hot:
                value = [place for place, one in enumerate(value) if one]
            return name(value[0]) if len(value) == 1 else None
        label = name(value)
        return None if label == missing else label

    return read


def _missing(summary: _Summary) -> str | None:
    """Returns "-1" if it marks rows without a label.

    The classes of benchmarks are counted from 0, and -1 fills the rows of the test set, which follow one another.
    As the name of a class, it is scattered as the others, or all rows are sorted by their label.
    """
    rows = summary.minus_one
    others = [label for label in summary.singles if label != "-1"]
    if not rows or not summary.numbers or not all(label.isdigit() for label in others):
        return None
    if not others:
        return "-1"
    together = len(rows) > 1 and rows[-1] - rows[0] + 1 == len(rows)
    is_sorted = summary.ascending or summary.descending
    return "-1" if together and not is_sorted else None


def _labels_reader(
    summary: _Summary,
    names: Sequence[str],
    separator: str | None,
    merge_case: bool,
    known: Collection[str] = (),
) -> Callable[[Any], tuple[str, ...] | None]:
    hot = _is_multi_hot(summary)
    if hot and names and {len(names)} != summary.lengths:
        raise OptionError(
            f"`label_names`: expected {next(iter(summary.lengths))} names, one for each position, got {len(names)}."
        )
    split = Counter[str]()
    for label, count in summary.singles.items():
        for part in label.split(separator) if separator else [label]:
            split[part.strip()] += count
    name = _namer(
        _Summary(singles=split, is_number=summary.is_number, has_fraction=summary.has_fraction),
        names,
        merge_case,
        known,
    )

    def read(value: Any) -> tuple[str, ...] | None:
        if value is None:
            return ()
        if isinstance(value, str):
            if value.strip() in known:
                return (value.strip(),)
            value = [part for part in (value.split(separator) if separator else [value]) if part.strip()]
        elif not isinstance(value, list):
            value = [value]
        if hot:
            value = [place for place, one in enumerate(value) if one]
        labels = [name(one) for one in value]
        return None if None in labels else tuple(sorted({str(label) for label in labels}))

    return read


def _tags(
    found: set[str], summary: _Summary, names: Sequence[str], known: Collection[str], are_spans: bool
) -> LabelColumn:
    task = tasks.find("token-labels")
    if are_spans:
        return LabelColumn(
            task,
            "marked spans of the text",
            lambda value: None,
            "words are split at spaces and punctuation",
            True,
        )
    split: set[str] = set(found)
    for cell in summary.singles:
        split.update(cell.split())
    numbered = bool(split) and all(tag.isdigit() for tag in split)
    if numbered and names:
        split = {names[int(tag)] if int(tag) < len(names) else tag for tag in split}
    scheme = None if split <= set(known) else scheme_of(split)
    scheme = None if scheme == "BIO" else scheme
    why = "a tag for each token"
    if scheme is not None:
        why += f", {scheme} converted to BIO" if scheme not in ("suffix", "IO") else ", converted to BIO"
    hint = "the tags are numbers; set `label_names` to name them" if numbered and not names else ""

    def read(value: Any) -> tuple[str, ...] | None:
        if isinstance(value, str):
            value = value.split()
        if not isinstance(value, list) or not value:
            return None
        tags = [plain_label(one) for one in value]
        if None in tags:
            return None
        own = [str(tag) for tag in tags]
        if numbered and names:
            own = [names[int(tag)] if int(tag) < len(names) else tag for tag in own]
        return to_bio(own, scheme) if scheme else tuple(own)

    return LabelColumn(task, why, read, hint, scheme=scheme)


def _number_in(text: str) -> float | None:
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _reads_decimal_comma(summary: _Summary, allowed: bool) -> bool:
    """Reports whether commas in numbers are decimal commas; with a comma as separator, 1,234 is ambiguous."""
    return summary.has_decimal_comma and summary.numbers and (allowed or not summary.has_thousands)


def _number_reader(summary: _Summary, allowed: bool) -> Callable[[Any], float | None]:
    comma = _reads_decimal_comma(summary, allowed)
    read_number: Callable[[Any], float | None] = tasks.find("regression").read_number  # type: ignore[attr-defined]

    def read(value: Any) -> float | None:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if comma and isinstance(value, str):
            value = value.replace(",", ".")
        return read_number(value)

    return read


def check_names(names: Sequence[str]) -> None:
    """Checks the names of labels that a user gives.

    Args:
        names: The names.

    Raises:
        OptionError: If a name is empty or occurs twice.
    """
    if any(not name.strip() for name in names) or len(set(names)) < len(names):
        raise OptionError(f"`label_names`: expected different names, got {listed(map(repr, names))}.")
