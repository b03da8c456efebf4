"""The supported methods of PEFT."""

from __future__ import annotations

from types import ModuleType

from keras_peft.shelf import Shelf

_SHELF = Shelf(__package__, "method", "methods")


def kinds() -> dict[str, ModuleType]:
    """Returns the modules of this package by the `peft_type` of their methods."""
    return {module.TYPE: module for module in _SHELF.modules().values()}
