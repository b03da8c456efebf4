"""Facts about all values of a label column, from which their meaning follows."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from keras_peft.data.spans import read_spans
from keras_peft.errors import DataError

# Different labels that are remembered.
_MOST = 100_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+|[+-]?\d+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
# What programs write for missing values. Among words they may be labels, among numbers they are not.
_MISSING = {"na", "n/a", "#n/a", "nan", "null", "none", "\\n", "-", "?"}
_MINUS_ONE = ("-1", "-1.0")
# How NumPy shortens long arrays.
_SHORTENED = re.compile(r"\[.*\.\.\. .*\]", re.DOTALL)


@dataclass
class ColumnSummary:
    """Facts about the values of a label column.

    Attributes:
        rows: Number of values.
        missing: Number of empty values.
        singles: How often each single value occurs, as a label.
        marks: How often each mark of a missing value occurs, such as NA.
        lists: Number of lists.
        lengths: Lengths of the lists.
        in_lists: How often each value occurs in the lists, as a label.
        are_spans: Whether all lists are spans of a text.
        has_fraction: Whether some number has a fraction.
        has_comma: Whether some number has a comma.
        has_thousands: Whether some number could have a comma between thousands.
    """

    rows: int = 0
    missing: int = 0
    singles: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    lists: int = 0
    lengths: set[int] = field(default_factory=set)
    in_lists: Counter[str] = field(default_factory=Counter)
    are_spans: bool = False
    has_fraction: bool = False
    has_comma: bool = False
    has_thousands: bool = False
    _are_numbers: bool = True
    _are_binary: bool = True
    _minus_one: list[int] = field(default_factory=list)
    _runs: int = 0
    _last: float | None = None

    @classmethod
    def of(cls, values: Iterable[Any]) -> ColumnSummary:
        """Looks at all values.

        Args:
            values: The values, decoded by `cells.decode`.

        Raises:
            DataError: If lists were shortened when they were written.
        """
        summary, filled, are_spans = cls(), 0, True
        for value in values:
            summary._see(value)
            if isinstance(value, list) and value:
                filled += 1
                are_spans = are_spans and read_spans(value) is not None
        if summary.numbers:
            # Among numbers, the marks are no labels.
            summary.missing += summary.marks.total()
        else:
            summary.singles.update(summary.marks)
            summary._are_numbers = summary._are_numbers and not summary.marks
        summary.are_spans = bool(filled and are_spans and not summary.singles)
        return summary

    @property
    def numbers(self) -> bool:
        """Whether all single values are numbers."""
        return self._are_numbers and bool(self.singles)

    @property
    def multi_hot(self) -> bool:
        """Whether lists have a 0 or 1 for each label, rather than the numbers of labels."""
        is_rectangular = self.lists > 0 and len(self.lengths) == 1 and self.lengths != {1}
        return is_rectangular and self._are_binary and not self.singles

    @property
    def whole_numbers(self) -> set[str]:
        """The single values, if all are numbers, without ".0"."""
        return {label.partition(".")[0] for label in self.singles} if self.numbers else set()

    @property
    def has_minus_one(self) -> bool:
        """Whether some value is -1."""
        return bool(self._minus_one)

    @property
    def minus_one_is_missing(self) -> bool:
        """Whether -1 marks rows without a label.

        The classes of benchmarks are counted from 0, and -1 fills the rows of the test set, which follow one another.
        As the name of a class, it is scattered as the others, or every label has its rows in one block.
        """
        rows, others = self._minus_one, self.whole_numbers - {"-1"}
        if not rows or not self.numbers or not all(label.isdecimal() for label in others):
            return False
        if not others:
            return True
        together = len(rows) > 1 and rows[-1] - rows[0] + 1 == len(rows)
        in_blocks = self._runs == len(self.whole_numbers)
        return "0" in others and together and not in_blocks

    def _see(self, value: Any) -> None:
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
        self._are_binary = self._are_binary and bool(value) and binary
        for one in value:
            text = plain_label(one)
            if text is not None and (text in self.in_lists or len(self.in_lists) < _MOST):
                self.in_lists[text] += 1

    def _see_single(self, value: Any) -> None:
        text = plain_label(value)
        if text is None:
            self._are_numbers = False
            return
        if isinstance(value, str) and text.lower() in _MISSING:
            self.marks[text] += 1
            return
        if _SHORTENED.fullmatch(text):
            raise DataError(
                "The labels were shortened by NumPy (`[0 0 … 0 1]`), so most are lost; write them as lists, with "
                "`.tolist()`."
            )
        if text in self.singles or len(self.singles) < _MOST:
            self.singles[text] += 1
        if text in _MINUS_ONE:
            self._minus_one.append(self.rows)
        if isinstance(value, bool):
            self._are_numbers = False
        elif self._are_numbers:
            self._see_number(text)

    def _see_number(self, text: str) -> None:
        number = number_in(text)
        if number is None:
            self._are_numbers = False
            return
        self.has_fraction = self.has_fraction or not number.is_integer()
        self._runs += number != self._last
        self._last = number
        self.has_comma = self.has_comma or "," in text
        self.has_thousands = self.has_thousands or bool(_THOUSANDS.fullmatch(text))


def plain_label(value: Any) -> str | None:
    """Returns the label that a single value stands for, or None if it is not a label.

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


def number_in(text: str) -> float | None:
    """Returns the number that a string contains, with a point or a decimal comma, or None.

    Args:
        text: The string.
    """
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None
