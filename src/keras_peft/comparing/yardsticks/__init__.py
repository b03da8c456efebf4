"""Yardsticks: simple models that show how much of a score the base or the fine-tuning earns. One per file.

A file defines `Yardstick`, a subclass of `_yardstick.Yardstick`. No registration is needed.
"""

from __future__ import annotations

from keras_peft.comparing.yardsticks._yardstick import Fitted, Yardstick
from keras_peft.shelf import Shelf

__all__ = ["Fitted", "Yardstick", "find", "names"]

_SHELF = Shelf(__name__, "yardstick", "yardsticks")


def names() -> list[str]:
    """Returns the names of all yardsticks, sorted."""
    return list(_SHELF.names)


def find(name: str) -> type[Yardstick]:
    """Returns the class of a yardstick.

    Args:
        name: Name of the yardstick, such as "words".

    Raises:
        OptionError: If there is no yardstick of that name.
    """
    found: type[Yardstick] = _SHELF.module(name).Yardstick
    return found
