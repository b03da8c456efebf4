"""The supported kinds of adapters."""

from __future__ import annotations

from types import ModuleType

from keras_peft.shelf import Shelf

_SHELF = Shelf(__package__, "way to adapt", "ways to adapt")


def kinds() -> tuple[ModuleType, ...]:
    """Returns the modules of this package, one for each kind of adapter."""
    return tuple(_SHELF.modules().values())
