"""Which methods of PEFT there are files for."""

from __future__ import annotations

from types import ModuleType

from keras_peft.shelf import Shelf

_SHELF = Shelf(__package__, "method", "methods")


def kinds() -> dict[str, ModuleType]:
    """Returns the files of this folder by what PEFT calls their methods."""
    return {module.TYPE: module for module in _SHELF.modules().values()}
