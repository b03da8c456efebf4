"""Functions from the value of a label column to the label, one for each kind of label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from keras_peft import tasks
from keras_peft.data.labels.options import LabelOptions
from keras_peft.data.labels.spelling import speller
from keras_peft.data.labels.summary import ColumnSummary, plain_label
from keras_peft.data.tag_schemes import to_bio


def one_label(summary: ColumnSummary, options: LabelOptions) -> Callable[[Any], str | None]:
    """Returns the function from a value to its only label.

    Args:
        summary: Facts about the column.
        options: How the labels are read.
    """
    spell, multi_hot = speller(summary, options), summary.multi_hot
    missing = "-1" if summary.minus_one_is_missing and "-1" not in options.known else None

    def read(value: Any) -> str | None:
        if isinstance(value, list):
            if multi_hot:
                value = [place for place, one in enumerate(value) if one]
            return spell(value[0]) if len(value) == 1 else None
        label = spell(value)
        return None if label == missing else label

    return read


def several_labels(
    summary: ColumnSummary, options: LabelOptions, separator: str | None
) -> Callable[[Any], tuple[str, ...] | None]:
    """Returns the function from a value to its labels.

    Args:
        summary: Facts about the column.
        options: How the labels are read.
        separator: Separator of the labels in a cell, if there is one.
    """
    parts = Counter[str]()
    for cell, count in summary.singles.items():
        for part in cell.split(separator) if separator else [cell]:
            parts[part.strip()] += count
    spell, multi_hot = speller(summary, options, parts), summary.multi_hot

    def read(value: Any) -> tuple[str, ...] | None:
        if value is None:
            # An empty cell of a table has no labels; a missing list was never filled in.
            return None if summary.lists else ()
        if isinstance(value, str):
            if value.strip() in options.known:
                return (value.strip(),)
            value = [part for part in (value.split(separator) if separator else [value]) if part.strip()]
        elif not isinstance(value, list):
            value = [value]
        if multi_hot:
            value = [place for place, one in enumerate(value) if one]
        labels = [spell(one) for one in value]
        return None if None in labels else tuple(sorted({str(label) for label in labels}))

    return read


def number(summary: ColumnSummary, *, decimal_comma: bool) -> Callable[[Any], float | None]:
    """Returns the function from a value to its number.

    Args:
        summary: Facts about the column.
        decimal_comma: Whether numbers may have a decimal comma.
    """
    comma = decimal_comma and summary.numbers and summary.has_comma
    read_number: Callable[[Any], float | None] = tasks.find("regression").read_number  # type: ignore[attr-defined]

    def read(value: Any) -> float | None:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if comma and isinstance(value, str):
            value = value.replace(",", ".")
        return read_number(value)

    return read


def token_tags(names: tuple[str, ...], scheme: str | None) -> Callable[[Any], tuple[str, ...] | None]:
    """Returns the function from a value to a tag for each token.

    Args:
        names: Names of tags that are numbers.
        scheme: Scheme of the tags, if they are converted to BIO.
    """

    def read(value: Any) -> tuple[str, ...] | None:
        if isinstance(value, str):
            value = value.split()
        if not isinstance(value, list) or not value:
            return None
        tags = [plain_label(one) for one in value]
        if None in tags:
            return None
        own = [names[int(tag)] if names else tag for tag in map(str, tags)]
        return to_bio(own, scheme) if scheme else tuple(own)

    return read
