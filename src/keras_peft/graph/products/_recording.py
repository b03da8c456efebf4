"""Records which activations each matrix multiplies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_peft.graph.products import float32

if TYPE_CHECKING:
    from keras_peft.graph.writer import GraphWriter


class Recorder(float32.Products):
    """Writes products in float32, and remembers their inputs.

    Args:
        graph: Writes the graph.

    Attributes:
        inputs: The name of the activations by the name of the matrix; those with a known lowest value are left out.
        largest: The largest absolute weight of each row of all matrices that read the same activations, (in,), by
            the name of the activations.
    """

    def __init__(self, graph: GraphWriter) -> None:
        super().__init__(graph)
        self.inputs: dict[str, str] = {}
        self.largest: dict[str, np.ndarray] = {}

    def multiply(self, x: str, matrix: np.ndarray, name: str, *, lowest: float | None = None) -> str:
        """Writes a product; see `Products.multiply`."""
        if lowest is None:
            own = np.abs(matrix).max(axis=1)
            self.inputs[name] = x
            self.largest[x] = np.maximum(self.largest.get(x, own), own)
        return super().multiply(x, matrix, name, lowest=lowest)
