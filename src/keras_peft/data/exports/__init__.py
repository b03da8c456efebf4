"""What annotation tools write: rows whose text and labels are nested, split over rows, or not accepted.

One module per tool. A module defines `NAME`, its name; `recognises(rows)`, which reports whether rows come from
it; and `convert(rows)`, which yields for each of them a plain row, or the reason why it is left out. Labels keep
the form in which the tool writes them; `inputs.cells` and `spans` understand these forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from keras_peft.data.exports._left_out import LeftOut
from keras_peft.data.readers import Row
from keras_peft.shelf import Shelf

__all__ = ["LeftOut", "recognise"]

_SHELF = Shelf(__name__, "export", "exports")


def recognise(rows: Sequence[Row]) -> ModuleType | None:
    """Returns the module of the tool that wrote some rows, or None if they are plain.

    Args:
        rows: The first rows of a table.
    """
    return next((module for module in _SHELF.modules().values() if module.recognises(rows)), None)
