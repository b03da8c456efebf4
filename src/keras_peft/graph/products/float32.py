"""Matrices in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.graph.writer import GraphWriter


class Products:
    """Stores and multiplies float32; see `Products`.

    Args:
        graph: Writes the graph.
    """

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph

    def multiply(self, x: str, matrix: np.ndarray, name: str, *, lowest: float | None = None) -> str:
        """Writes a product; see `Products.multiply`."""
        return self._graph.add("MatMul", x, self._graph.constant(matrix, name))

    def look_up(self, ids: str, table: np.ndarray, name: str) -> str:
        """Writes a look-up of rows; see `Products.look_up`."""
        return self._graph.add("Gather", self._graph.constant(table, name), ids)
