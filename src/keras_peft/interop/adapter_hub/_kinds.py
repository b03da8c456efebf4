"""Which ways to adapt there are files for."""

from __future__ import annotations

from types import ModuleType

from keras_peft.shelf import Shelf

_SHELF = Shelf(__package__, "way to adapt", "ways to adapt")


def kinds() -> tuple[ModuleType, ...]:
    """Returns the files of this folder, one for each way to adapt."""
    return tuple(_SHELF.modules().values())
