"""The file that a bundle was trained on, as texts to compare an export on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from keras_peft.data.columns import column_options
from keras_peft.data.examples import Examples, read_examples
from keras_peft.errors import KerasPeftError
from keras_peft.toml_files import read_table

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle

# More texts take long and show little more.
_MOST = 512


def training_examples(bundle: Bundle) -> Examples | None:
    """Returns rows of the file that a bundle was trained on, if it is still where it was.

    With lower precision, close answers change easily, and a classifier is unsure of texts that are unlike its own.

    Args:
        bundle: The bundle.

    Returns:
        Some of the rows; None if the file is not found, cannot be read, or has other labels.
    """
    try:
        flags = read_table(bundle.folder / "run.toml")
        path = bundle.folder / str(flags["data"])
        is_file = path.is_file()
    except (OSError, ValueError, KeyError):
        return None
    if path.name != bundle.content["data"].get("source") or not is_file:
        return None
    columns: dict[str, Any] = column_options(bundle.columns)
    try:
        found = read_examples(path, task=bundle.task(), skip_bad_rows=True, **columns)
    except (KerasPeftError, OSError):
        return None
    if bundle.task().unknown(found.labels):
        return None
    step = max(1, math.ceil(len(found) / _MOST))
    return found.pick(range(0, len(found), step))
