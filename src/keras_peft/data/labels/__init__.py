"""Understands a column of labels: which task its values belong to, and what each value means.

All values are looked at before any is read, so that the same value means the same in every row.

summary.py      facts about all values
separators.py   what separates several labels in a cell
spelling.py     numbers, booleans, given names, and variants in case
readings.py     the function from a value to a label, one for each kind of label
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from keras_peft import tasks
from keras_peft.data.labels import readings
from keras_peft.data.labels.options import LabelOptions
from keras_peft.data.labels.separators import SEPARATORS, find_separator, parts_repeat
from keras_peft.data.labels.spelling import check_names
from keras_peft.data.labels.summary import ColumnSummary
from keras_peft.data.tag_schemes import scheme_of
from keras_peft.errors import OptionError, listed
from keras_peft.tasks import Label, Task

__all__ = ["LabelColumn", "LabelOptions", "understand"]

# From this many different whole numbers, the labels could be ratings.
_RATINGS = 3
_AS_SET = "as set"


@dataclass(frozen=True)
class LabelColumn:
    """How the values of a label column are read.

    Attributes:
        task: Task of the labels.
        why: Why the task was chosen, for display.
        read: Function from a decoded value to the label, or None if the value is not a label.
        hint: Advice for other readings, or "".
        are_spans: Whether the values are spans of the text, which `read` does not read.
    """

    task: type[Task]
    why: str
    read: Callable[[Any], Label | None]
    hint: str = ""
    are_spans: bool = False


def understand(
    values: Iterable[Any],
    *,
    task: type[Task] | None = None,
    several: bool = False,
    pairs: bool = False,
    tokens: bool = False,
    options: LabelOptions | None = None,
) -> LabelColumn:
    """Decides how the values of a label column are read.

    Args:
        values: All values, decoded by `cells.decode`. They are iterated over once.
        task: The task, if it is known.
        several: Whether the name of the column says that a row may have several labels.
        pairs: Whether a row has two texts.
        tokens: Whether a row has a list of tokens.
        options: Options that replace the detection.

    Returns:
        The reading.

    Raises:
        OptionError: If the options do not fit the values.
        DataError: If the values are damaged.
    """
    options = options or LabelOptions()
    summary = ColumnSummary.of(values)
    if tokens or (task is not None and task.per_word) or (task is None and summary.are_spans):
        return _tags(summary, options)
    check_names(summary, options.names)
    if task is None:
        return (
            _lists(summary, options, several, pairs)
            if summary.lists
            else _cells(summary, options, several, pairs)
        )
    if task.name == "regression":
        comma = options.decimal_comma or not summary.has_thousands
        return LabelColumn(task, _AS_SET, readings.number(summary, decimal_comma=comma))
    if task.name == "multi-label":
        return LabelColumn(task, _AS_SET, _several(summary, options))
    return LabelColumn(task, _AS_SET, readings.one_label(summary, options))


def _several(summary: ColumnSummary, options: LabelOptions) -> Callable[[Any], Label | None]:
    separator = options.separator or find_separator(summary.singles, several=True)
    return readings.several_labels(summary, options, separator)


def _lists(summary: ColumnSummary, options: LabelOptions, several: bool, pairs: bool) -> LabelColumn:
    """Guesses the task of values of which some are lists."""
    if summary.lengths <= {0, 1} and 1 in summary.lengths and not summary.singles and not several:
        return LabelColumn(_single(pairs), "lists of one label", readings.one_label(summary, options))
    why, hint = "lists of labels", ""
    if summary.multi_hot:
        why = "a 0 or 1 for each label"
        if not options.names:
            hint = "the labels are named by their position; set `label_names` to name them"
    return LabelColumn(tasks.find("multi-label"), why, _several(summary, options), hint)


def _cells(summary: ColumnSummary, options: LabelOptions, several: bool, pairs: bool) -> LabelColumn:
    """Guesses the task of single values."""
    separator = options.separator or find_separator(summary.singles, several=several)
    if separator is not None or (several and summary.missing and not summary.numbers):
        why = "the name of the column, and rows without a label"
        if separator is not None:
            why = f"labels separated by {separator!r}"
        return LabelColumn(
            tasks.find("multi-label"), why, readings.several_labels(summary, options, separator)
        )
    if summary.numbers and not options.names and (options.decimal_comma or not summary.has_comma):
        if summary.has_fraction or summary.has_comma:
            return LabelColumn(
                tasks.find("regression"),
                "numbers with fractions",
                readings.number(summary, decimal_comma=options.decimal_comma),
                "set `task='single-label'` if they are names of classes",
            )
        why, hint = "whole numbers as classes", ""
        if summary.minus_one_is_missing:
            why += ", -1 for rows without one"
        elif summary.has_minus_one:
            hint = "-1 counts as a label"
        if len(summary.whole_numbers) >= _RATINGS and not summary.has_minus_one:
            hint = "set `task='regression'` if they are ratings or amounts"
        return LabelColumn(_single(pairs), why, readings.one_label(summary, options), hint)
    return LabelColumn(
        _single(pairs), "one label in each row", readings.one_label(summary, options), _hint(summary, several)
    )


def _hint(summary: ColumnSummary, several: bool) -> str:
    """Returns advice on words that could be read in another way."""
    if summary.numbers and summary.has_comma:
        return "labels contain commas; set `task='multi-label'` or `task='regression'` if they mean that"
    if unsure := next((one for one in SEPARATORS if parts_repeat(summary.singles, one)), None):
        return f"some labels contain {unsure!r}; set `task='multi-label'` if it separates labels"
    if several and parts_repeat(summary.singles, " "):
        return "some labels contain spaces; set `label_separator=' '` and `task='multi-label'` if they separate labels"
    if summary.marks and not summary.numbers:
        marks = listed(repr(mark) for mark in summary.marks)
        return f"{marks} counts as a label; remove these rows if it marks missing ones"
    return ""


def _tags(summary: ColumnSummary, options: LabelOptions) -> LabelColumn:
    """Reads a tag for each token, or spans of a text."""
    task = tasks.find("token-labels")
    if summary.are_spans:
        return LabelColumn(
            task,
            "marked spans of the text",
            lambda value: None,
            "words are split at spaces and punctuation",
            are_spans=True,
        )
    tags = Counter(summary.in_lists)
    for cell, count in summary.singles.items():
        tags.update({tag: count * number for tag, number in Counter(cell.split()).items()})
    if options.merge_case:
        raise OptionError("`merge_labels` merges labels of texts; it has no effect on tags, so remove it.")
    check_names(summary, options.names, tags=tags)
    hint = ""
    if options.names:
        tags = Counter({options.names[int(tag)]: count for tag, count in tags.items()})
    elif tags and all(tag.isdecimal() for tag in tags):
        hint = "the tags are numbers; set `label_names` to name them"
    scheme = None if tags.keys() <= set(options.known) else scheme_of(tags)
    why = "a tag for each token"
    if scheme == "BIO":
        scheme = None
    elif scheme is not None:
        why += f", {scheme} converted to BIO" if scheme.isupper() and scheme != "IO" else ", converted to BIO"
    return LabelColumn(task, why, readings.token_tags(options.names, scheme), hint)


def _single(pairs: bool) -> type[Task]:
    return tasks.find("pairs" if pairs else "single-label")
