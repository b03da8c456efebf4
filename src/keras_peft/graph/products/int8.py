"""8-bit weights with one scale per column, multiplied by activations with one scale per token.

A scale per tensor would make the answer for a text depend on the other texts of its batch. With a scale per token,
each row is computed as it is alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_peft.graph.writer import FLOAT, MICROSOFT

if TYPE_CHECKING:
    from keras_peft.graph.writer import GraphWriter

# Activations are quantised to 1…255 around this zero point, weights to -127…127.
_ZERO, _MOST = 128, 127
_LEAST = 1e-12
_ROWS_AT_ONCE = 1024


class Products:
    """Quantises each token of the activations, and multiplies integers; see `Products`.

    Args:
        graph: Writes the graph.
    """

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph
        # The query, key and value of a block read the same activations.
        self._quantised: dict[str, tuple[str, str, str]] = {}

    def multiply(self, x: str, matrix: np.ndarray, name: str) -> str:
        """Writes a product; see `Products.multiply`."""
        graph = self._graph
        rows, scale, lead = self._rows(x, matrix.shape[0])
        weights, factors = _quantise(matrix, axis=0)
        product = graph.add(
            "MatMulIntegerToFloat",
            rows,
            graph.constant(weights, name),
            graph.constant(np.float32(1)),
            graph.constant(factors, f"{name}_scale"),
            graph.constant(np.uint8(_ZERO)),
            domain=MICROSOFT,
        )
        product = graph.add("Mul", product, graph.add("Unsqueeze", scale, graph.integers(1)))
        shape = graph.add("Concat", lead, graph.integers(matrix.shape[1]), axis=0)
        return graph.add("Reshape", product, shape)

    def look_up(self, ids: str, table: np.ndarray, name: str) -> str:
        """Writes a look-up of rows; see `Products.look_up`."""
        graph = self._graph
        rows, factors = _quantise(table, axis=1)
        found = graph.add("Cast", graph.add("Gather", graph.constant(rows, name), ids), to=FLOAT)
        scale = graph.add("Gather", graph.constant(factors[:, None], f"{name}_scale"), ids)
        return graph.add("Mul", found, scale)

    def _rows(self, x: str, inputs: int) -> tuple[str, str, str]:
        """Writes the tokens of a tensor as uint8 rows, their scales, and the tensor's shape without the last axis."""
        if x in self._quantised:
            return self._quantised[x]
        graph = self._graph
        lead = graph.add(
            "Slice", graph.add("Shape", x), graph.integers(0), graph.integers(2), graph.integers(0)
        )
        flat = graph.add("Reshape", x, graph.integers(-1, inputs))
        highest = graph.add("ReduceMax", flat, axes=[1], keepdims=0)
        lowest = graph.add("Neg", graph.add("ReduceMin", flat, axes=[1], keepdims=0))
        largest = graph.add("Max", highest, lowest, graph.constant(np.float32(_LEAST)))
        scale = graph.add("Mul", largest, graph.constant(np.float32(1 / _MOST)))
        zeros = graph.add("Expand", graph.constant(np.array([_ZERO], np.uint8)), graph.add("Shape", scale))
        rows = graph.add("QuantizeLinear", flat, scale, zeros, axis=0)
        self._quantised[x] = rows, scale, lead
        return self._quantised[x]


def _quantise(matrix: np.ndarray, *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a matrix in int8 and the factors of its rows or columns, whose largest values become 127."""
    highest, lowest = (side(axis=axis, keepdims=True) for side in (matrix.max, matrix.min))
    largest = np.maximum(np.maximum(highest, -lowest), np.float32(_LEAST))
    factors = (largest / _MOST).astype(np.float32)
    rounded = np.empty(matrix.shape, np.int8)
    # In parts, since the token table is by far the largest matrix.
    for at in range(0, len(matrix), _ROWS_AT_ONCE):
        some = slice(at, at + _ROWS_AT_ONCE)
        rounded[some] = np.rint(matrix[some] / (factors[some] if axis == 1 else factors))
    return rounded, factors.reshape(-1)
