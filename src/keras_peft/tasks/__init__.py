"""The tasks: what a head's outputs mean. One file each, found by its name."""

from __future__ import annotations

from collections.abc import Sequence

from keras_peft.shelf import Shelf
from keras_peft.tasks._scores import LabelScores, Scores, metric_name
from keras_peft.tasks._task import UNLABELLED, Label, Prediction, TableRow, Task

__all__ = [
    "UNLABELLED",
    "Label",
    "LabelScores",
    "Prediction",
    "Scores",
    "TableRow",
    "Task",
    "choose",
    "find",
    "metric_name",
    "names",
]

_SHELF = Shelf(__name__, "task", "tasks")


def names() -> list[str]:
    """Lists the names of all tasks, sorted."""
    return list(_SHELF.names)


def find(name: str) -> type[Task]:
    """Returns the class of a task.

    Raises:
        OptionError: If there is no task of that name.
    """
    task: type[Task] = _SHELF.module(name).Task
    return task


def choose(
    rows: Sequence[TableRow],
    task: type[Task] | None = None,
    *,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
) -> tuple[type[Task], tuple[str, ...], str]:
    """Reads from a table what its task is, and which columns hold it.

    The task is that of the columns' names: `text` and `label` for a single label,
    `text_a` and `text_b` for pairs, `labels` for several, `tokens` and `tags` for tags. Then
    lists in the label's column mean several labels, and numbers with fractions regression.

    Args:
        rows: Some rows of the table, at least one.
        task: The task, where it is known.
        text_columns: The columns of the texts, where they are known; two are a pair.
        label_column: The column of the labels, where it is known.

    Returns:
        The task and the names of its columns, which need not be there.
    """
    every = [find(name) for name in names()]
    # The plainest comes first, and is what is expected where nothing fits.
    every.sort(key=lambda one: (one is not find("single-label"), one.name))
    if task is None:
        plain = [one for one in every if (label_column or one.label_column) in rows[0] and not one.per_word]
        fitting = [
            one
            for one in ([*plain, *every] if not text_columns else plain)
            if (label_column or one.label_column) in rows[0]
            and len(one.input.columns) == (len(text_columns) or len(one.input.columns))
            and all(column in rows[0] for column in text_columns or one.input.columns)
        ]
        task = next(iter([*fitting, *plain]), every[0])
        values = [row.get(label_column or task.label_column) for row in rows]
        if not task.per_word:
            task = next((one for one in every if one.reads(values)), task)
    forms = {one.input.columns for one in every if one.per_word == task.per_word}
    ordered = [tuple(text_columns)] if text_columns else [task.input.columns, *sorted(forms)]
    texts = next((form for form in ordered if all(column in rows[0] for column in form)), ordered[0])
    labels = [label_column] if label_column else [task.label_column, "label"]
    return task, texts, next((column for column in labels if column in rows[0]), labels[0])
