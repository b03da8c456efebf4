"""The tasks: what a head's outputs mean. One file each, found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from keras_peft.errors import OptionError, did_you_mean


def names() -> list[str]:
    """Lists the names of all tasks, sorted."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Any:
    """Returns the class of a task.

    Raises:
        OptionError: If there is no task of that name.
    """
    if name not in names():
        raise OptionError(
            f"There is no task {name!r}; the tasks are: {', '.join(names())}.{did_you_mean(name, names())}"
        )
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").Task
