"""The spelling of labels: numbers, booleans, names that the user gives, and variants in case."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from keras_peft.data.labels.options import LabelOptions
from keras_peft.data.labels.summary import ColumnSummary, plain_label
from keras_peft.errors import OptionError, listed

_WHOLE = re.compile(r"[+-]?\d+\.0*")
_FRACTION = re.compile(r"\.0*$")
_BOOLEANS = {"true", "false"}


def speller(
    summary: ColumnSummary, options: LabelOptions, labels: Counter[str] | None = None
) -> Callable[[Any], str | None]:
    """Returns the function from a single value to its label.

    Args:
        summary: Facts about the column.
        options: How the labels are read.
        labels: The labels, if they are not the single values.
    """
    labels = (summary.singles if labels is None else labels) + summary.in_lists
    lower = {label.lower() for label in labels}
    are_booleans = bool(lower) and lower <= _BOOLEANS
    are_whole = summary.numbers and not summary.has_fraction and not summary.has_comma
    merged = _merged(labels, options.known) if options.merge_case else {}
    first = first_number(summary, options.names)

    def spell(value: Any) -> str | None:
        label = plain_label(value)
        if label is None or label in options.known:
            return label
        if summary.numbers and label in summary.marks:
            return None
        if are_booleans:
            label = label.lower()
        if are_whole and _WHOLE.fullmatch(label):
            label = label.partition(".")[0]
        if options.names and label.isdecimal():
            return options.names[int(label) - first]
        return merged.get(label, label)

    return spell


def first_number(summary: ColumnSummary, names: Sequence[str]) -> int:
    """Returns the number of the first name: 1 if the labels are exactly the numbers from 1 on, else 0.

    Args:
        summary: Facts about the column.
        names: Names of the labels.
    """
    return int(bool(names) and summary.whole_numbers == {str(number) for number in range(1, len(names) + 1)})


def check_names(summary: ColumnSummary, names: Sequence[str], *, tags: Collection[str] | None = None) -> None:
    """Checks that names of labels fit their numbers or positions.

    Args:
        summary: Facts about the column.
        names: The names; without any, nothing is checked.
        tags: The tags, if each token has one.

    Raises:
        OptionError: If they do not fit.
    """
    if not names:
        return
    if tags is None and summary.multi_hot:
        if {len(names)} != summary.lengths:
            (count,) = summary.lengths
            raise OptionError(
                f"`label_names`: expected {count} names, one for each position, got {len(names)}."
            )
        return
    found = {*summary.in_lists, *summary.singles} if tags is None else set(tags)
    found = {_FRACTION.sub("", label) for label in found}
    if summary.minus_one_is_missing:
        found.discard("-1")
    if words := sorted(label for label in found if not label.isdecimal()):
        raise OptionError(
            f"`label_names`: expected labels that are numbers from 0 on, or a 0 or 1 for each position; got "
            f"{listed(map(repr, words), most=5)}."
        )
    most = max((int(label) for label in found), default=0)
    if most - first_number(summary, names) >= len(names):
        raise OptionError(
            f"`label_names`: the labels are numbers up to {most}, but there are {len(names)} names."
        )


def _merged(labels: Counter[str], known: Collection[str]) -> dict[str, str]:
    """Maps labels that differ only in case to the known spelling, or to the most frequent one."""
    best = {label.casefold(): label for label in known}
    for label, _ in sorted(labels.items(), key=lambda one: (-one[1], one[0])):
        best.setdefault(label.casefold(), label)
    return {label: best[label.casefold()] for label in labels}
