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
from keras_peft.errors import DataError, OptionError, listed
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
# What programs write for missing values. Among words they may be labels, among numbers they are not.
_MISSING = {"na", "n/a", "#n/a", "nan", "null", "none", "\\n", "-", "?"}
# How NumPy shortens long arrays.
_SHORTENED = re.compile(r"\[.*\.\.\. .*\]", re.DOTALL)


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
    marks: Counter[str] = field(default_factory=Counter)
    shortened: bool = False
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
        if isinstance(value, str) and text.lower() in _MISSING:
            self.marks[text] += 1
            return
        self.shortened = self.shortened or bool(_SHORTENED.fullmatch(text))
        if text in self.singles or len(self.singles) < _MOST:
            self.singles[text] += 1
        if text in ("-1", "-1.0"):
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

    def settle(self) -> None:
        """Decides, once all values were seen, whether marks of missing values are labels."""
        if not self.numbers:
            self.singles.update(self.marks)
            self.is_number = self.is_number and not self.marks

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
        DataError: If the values are damaged.
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
    summary.settle()
    are_spans = bool(some and are_spans and not summary.singles)
    if summary.shortened:
        raise DataError(
            "The labels were shortened by NumPy (`[0 0 … 0 1]`), so most are lost; write them as lists, with "
            "`.tolist()`."
        )
    _check_names(summary, tags, label_names, tokens or (task is not None and task.per_word))
    if tokens or (task is not None and task.per_word):
        return _tags(tags, summary, label_names, known, are_spans)
    if are_spans and task is None:
        return _tags(tags, summary, label_names, known, True)
    if task is None:
        return _guess(summary, several, pairs, label_names, label_separator, decimal_comma, merge_case)
    if task.name == "regression":
        allowed = decimal_comma or not summary.has_thousands
        return LabelColumn(task, "as set", _number_reader(summary, allowed))
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
        one_each = summary.lengths <= {0, 1} and 1 in summary.lengths and not summary.singles and not several
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
    marks = listed(repr(mark) for mark in summary.marks)
    if unsure := next((one for one in SEPARATORS if _parts_repeat(summary.singles, one)), None):
        hint = f"some labels contain {unsure!r}; set `task='multi-label'` if it separates labels"
    elif summary.has_decimal_comma and summary.numbers:
        hint = "labels contain commas; set `task='multi-label'` or `task='regression'` if they mean that"
    elif several and any(" " in label for label in summary.singles) and _parts_repeat(summary.singles, " "):
        hint = "some labels contain spaces; set `label_separator=' '` and `task='multi-label'` if they separate labels"
    elif marks:
        hint = f"{marks} counts as a label; remove these rows if it marks missing ones"
    elif summary.minus_one:
        hint = "-1 counts as a label; remove these rows if it marks missing ones"
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
        sure: Whether the cells themselves must show it: not all have the same number of parts, and parts also
            occur in other cells. doccano's "#" is also recognised between words without spaces.
    """
    found: list[tuple[int, str]] = []
    for separator in SEPARATORS:
        joined = [label for label in labels if separator in label]
        parts = [[part.strip() for part in label.split(separator)] for label in joined]
        if not joined or not all(all(own) for own in parts):
            continue
        # Paths such as Books|Fiction have the same depth everywhere.
        differ = len(joined) < len(labels) or len({len(own) for own in parts}) > 1
        words = separator == "#" and not any(" " in label for label in joined)
        if not sure or (separator != "," and differ and (words or _parts_repeat(labels, separator))):
            found.append((len(joined), separator))
    # Of several, the one in most cells: "c#,java" and "java,go" are separated by commas.
    return max(found, key=lambda one: (one[0], -SEPARATORS.index(one[1])))[1] if found else None


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
    shift = _first_number(summary, names)

    def name(value: Any) -> str | None:
        label = plain_label(value)
        if label is None:
            return None
        if label in known:
            return label
        if summary.numbers and label in summary.marks:
            return None
        if booleans:
            label = label.lower()
        if whole and _WHOLE.fullmatch(label):
            label = label.partition(".")[0]
        if names and label.isdecimal():
            return names[int(label) - shift]
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
    others = [label.partition(".")[0] for label in others if label != "-1.0"]
    if not rows or not summary.numbers or not all(label.isdecimal() for label in others):
        return None
    if not others:
        return "-1"
    if "0" not in others:
        return None
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
            # An empty cell of a table has no labels; a missing list was never filled in.
            return None if summary.lists else ()
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
    numbered = bool(split) and all(tag.isdecimal() for tag in split)
    if numbered and names:
        split = {names[int(tag)] for tag in split}
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
            own = [names[int(tag)] for tag in own]
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
    """Reports whether commas in numbers are decimal commas: 1,234 or 2,5 may also be a thousand or two labels."""
    return summary.has_decimal_comma and summary.numbers and allowed


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


def _first_number(summary: _Summary, names: Sequence[str]) -> int:
    """Returns the number of the first name: 1 if the labels are exactly the numbers from 1 on, else 0."""
    if not names or not summary.numbers:
        return 0
    numbers = {label.partition(".")[0] for label in summary.singles}
    return int(numbers == {str(number) for number in range(1, len(names) + 1)})


def _check_names(summary: _Summary, tags: set[str], names: Sequence[str], per_token: bool) -> None:
    """Checks that names of labels fit their numbers or positions."""
    if not names:
        return
    if not per_token and _is_multi_hot(summary):
        if {len(names)} != summary.lengths:
            raise OptionError(
                f"`label_names`: expected {next(iter(summary.lengths))} names, one for each position, got {len(names)}."
            )
        return
    found = {label.partition(".")[0] for label in ({*tags, *summary.singles} if not per_token else tags)}
    if per_token:
        found |= {tag for cell in summary.singles for tag in cell.split()}
    if words := sorted(label for label in found if not label.isdecimal()):
        raise OptionError(
            f"`label_names`: expected labels that are numbers from 0 on, or a 0 or 1 for each position; got "
            f"{listed(map(repr, words), most=5)}."
        )
    most = max((int(label) for label in found), default=0)
    if most - _first_number(summary, names) >= len(names):
        raise OptionError(
            f"`label_names`: the labels are numbers up to {most}, but there are {len(names)} names."
        )


def check_names(names: Sequence[str]) -> None:
    """Checks the names of labels that a user gives.

    Args:
        names: The names.

    Raises:
        OptionError: If a name is empty or occurs twice.
    """
    if any(not name.strip() for name in names) or len(set(names)) < len(names):
        raise OptionError(f"`label_names`: expected different names, got {listed(map(repr, names))}.")
