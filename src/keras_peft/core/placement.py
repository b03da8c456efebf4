"""A method and the layers that it attaches to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_peft.core.method import Method
from keras_peft.core.selection import Selection


@dataclass(frozen=True)
class Placement:
    """A method and the selection of layers that it attaches to.

    Attributes:
        method: The method.
        selection: The targets and blocks.

    Example:
        >>> selection = keras_peft.Selection(("ffn.up",), layers="last:2")
        >>> placement = keras_peft.Placement(keras_peft.LoRA(rank=8), selection)
        >>> model = keras_peft.adapt(base, [keras_peft.BitFit(), placement])
    """

    method: Method
    selection: Selection

    def to_config(self) -> dict[str, Any]:
        """Returns the method and the selection, ready for JSON."""
        return {"method": self.method.to_config(), "selection": self.selection.to_config()}


def stack_order(method: Method) -> tuple[int, bool]:
    """Sort key that orders the methods around a layer, innermost first.

    Methods that lengthen the text go outermost, so that the others see it with its masks.
    """
    return method.extra_positions, not method.innermost
