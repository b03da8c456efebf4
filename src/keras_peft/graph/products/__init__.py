"""How the matrices of a graph are stored and multiplied, one precision per module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from keras_peft.shelf import Shelf

if TYPE_CHECKING:
    from keras_peft.graph.products._products import Products
    from keras_peft.graph.writer import GraphWriter

_SHELF = Shelf(__name__, "precision", "precisions")


def find(name: str) -> Callable[[GraphWriter], Products]:
    """Returns the class of a precision.

    Args:
        name: Name of the precision: "float32", "float16" or "int8".

    Raises:
        OptionError: If there is no precision of that name.
    """
    made: Callable[[GraphWriter], Products] = _SHELF.module(name).Products
    return made
