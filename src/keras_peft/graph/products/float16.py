"""Matrices stored in float16 and multiplied in float32, which halves the file but not the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_peft.graph.writer import FLOAT

if TYPE_CHECKING:
    from keras_peft.graph.writer import GraphWriter


class Products:
    """Stores float16, which a runtime converts to float32 when it loads the graph; see `Products`.

    Args:
        graph: Writes the graph.
    """

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph

    def multiply(self, x: str, matrix: np.ndarray, name: str, *, lowest: float | None = None) -> str:
        """Writes a product; see `Products.multiply`."""
        return self._graph.add("MatMul", x, self._stored(matrix, name))

    def look_up(self, ids: str, table: np.ndarray, name: str) -> str:
        """Writes a look-up of rows; see `Products.look_up`."""
        return self._graph.add("Gather", self._stored(table, name), ids)

    def _stored(self, matrix: np.ndarray, name: str) -> str:
        return self._graph.add("Cast", self._graph.constant(matrix.astype(np.float16), name), to=FLOAT)
