"""Tasks: the meaning of a head's outputs. One module per task, found by name."""

from __future__ import annotations

from keras_peft.shelf import Shelf
from keras_peft.tasks._intervals import wilson
from keras_peft.tasks._scores import LabelScores, Scores, metric_name
from keras_peft.tasks._task import UNLABELLED, Label, Prediction, Task

__all__ = [
    "UNLABELLED",
    "Label",
    "LabelScores",
    "Prediction",
    "Scores",
    "Task",
    "find",
    "metric_name",
    "names",
    "wilson",
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
