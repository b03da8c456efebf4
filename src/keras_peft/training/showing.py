"""What shows a run in Python, unless it is told otherwise."""

from __future__ import annotations

from importlib.util import find_spec

from keras_peft.progress import Progress


def shown(progress: Progress | None) -> Progress:
    """Returns the given progress, or by default bars on a terminal and in a notebook.

    Args:
        progress: The given progress, or None.
    """
    if progress is not None:
        return progress
    if find_spec("rich") is None:  # It is reported later, with all packages that are missing.
        return Progress()
    from keras_peft.bars import default_progress

    return default_progress()
