"""Tasks: the meaning of a head's outputs. One module per task, found by name."""

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
    """Returns the names of all tasks, sorted."""
    return list(_SHELF.names)


def find(name: str) -> type[Task]:
    """Returns the class of a task.

    Args:
        name: Name of the task, such as "single-label".

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
    """Infers from a table what its task is, and which columns to read.

    The column names determine the task: `text` and `label` for a single label, `text_a` and `text_b` for
    pairs, `labels` for several labels, `tokens` and `tags` for tags. The values of the label column can
    override this: lists mean several labels, and numbers with fractions mean regression.

    Args:
        rows: Some rows of the table, at least one.
        task: The task, if known.
        text_columns: Names of the text columns, if known; two for pairs.
        label_column: Name of the label column, if known.

    Returns:
        The task, the names of its text columns, and the name of its label column. The table need not
        contain these columns.
    """
    every = [find(name) for name in names()]
    # The simplest task comes first and is the fallback.
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
