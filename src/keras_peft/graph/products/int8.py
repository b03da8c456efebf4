"""8-bit weights with one scale per column, multiplied by activations with one scale per token.

A scale per tensor would make the answer for a text depend on the other texts of its batch. With a scale per token,
each row is computed as it is alone.

A few channels of the activations are much larger than the others, which leaves few steps for these. With smoothing
factors, such channels are divided by a factor and their rows of the matrix multiplied by it: Xiao et al. 2022,
"SmoothQuant", https://arxiv.org/abs/2211.10438, equations 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_peft.graph.writer import FLOAT, MICROSOFT

if TYPE_CHECKING:
    from keras_peft.graph.writer import GraphWriter

# Activations are quantised to 1…255 around this zero point, and to 0…255 if they have a lowest value; weights to
# -127…127.
_ZERO, _MOST, _MOST_UNSIGNED = 128, 127, 255
_LEAST = 1e-12
_ROWS_AT_ONCE = 1024


class Products:
    """Quantises each token of the activations, and multiplies integers; see `Products`.

    Args:
        graph: Writes the graph.
        factors: The smoothing factors of the inputs of matrices, (in,), by the name of the matrix; see
            `smoothing_factors`.
    """

    def __init__(self, graph: GraphWriter, factors: Mapping[str, np.ndarray] | None = None) -> None:
        self._graph, self._factors = graph, factors or {}
        self._smoothed: dict[str, str] = {}
        # The query, key and value of a block read the same activations.
        self._quantised: dict[str, tuple[str, str, str]] = {}

    def multiply(self, x: str, matrix: np.ndarray, name: str, *, lowest: float | None = None) -> str:
        """Writes a product; see `Products.multiply`."""
        graph = self._graph
        if lowest is None and (smoothing := self._factors.get(name)) is not None:
            x, matrix = self._divided(x, smoothing, name), matrix * smoothing[:, None]
        weights, factors = _quantise(matrix, axis=0)
        rows, scale, lead = self._rows(x, matrix.shape[0], lowest)
        product = graph.add(
            "MatMulIntegerToFloat",
            rows,
            graph.constant(weights, name),
            graph.constant(np.float32(1)),
            graph.constant(factors, f"{name}_scale"),
            graph.constant(np.uint8(_ZERO if lowest is None else 0)),
            domain=MICROSOFT,
        )
        product = graph.add("Mul", product, graph.add("Unsqueeze", scale, graph.integers(1)))
        if lowest is not None:
            # The activations were shifted to begin at 0, which adds the same to all tokens.
            added = (weights.sum(axis=0, dtype=np.int64) * factors * lowest).astype(np.float32)
            product = graph.add("Add", product, graph.constant(added, f"{name}_shift"))
        shape = graph.add("Concat", lead, graph.integers(matrix.shape[1]), axis=0)
        return graph.add("Reshape", product, shape)

    def look_up(self, ids: str, table: np.ndarray, name: str) -> str:
        """Writes a look-up of rows; see `Products.look_up`."""
        graph = self._graph
        rows, factors = _quantise(table, axis=1)
        found = graph.add("Cast", graph.add("Gather", graph.constant(rows, name), ids), to=FLOAT)
        scale = graph.add("Gather", graph.constant(factors[:, None], f"{name}_scale"), ids)
        return graph.add("Mul", found, scale)

    def _divided(self, x: str, smoothing: np.ndarray, name: str) -> str:
        """Writes activations divided by factors, once for all matrices that read them."""
        if x not in self._smoothed:
            inverse = self._graph.constant(1 / smoothing, f"{name}_smoothing")
            self._smoothed[x] = self._graph.add("Mul", x, inverse)
        return self._smoothed[x]

    def _rows(self, x: str, inputs: int, lowest: float | None) -> tuple[str, str, str]:
        """Writes the tokens of a tensor as uint8 rows, their scales, and the tensor's shape without the last axis."""
        if x in self._quantised:
            return self._quantised[x]
        graph = self._graph
        lead = graph.add(
            "Slice", graph.add("Shape", x), graph.integers(0), graph.integers(2), graph.integers(0)
        )
        flat = graph.add("Reshape", x, graph.integers(-1, inputs))
        zero = _ZERO if lowest is None else 0
        if lowest is None:
            highest = graph.add("ReduceMax", flat, axes=[1], keepdims=0)
            most = graph.add(
                "Max", highest, graph.add("Neg", graph.add("ReduceMin", flat, axes=[1], keepdims=0))
            )
        else:
            flat = graph.add("Sub", flat, graph.constant(np.float32(lowest)))
            most = graph.add("ReduceMax", flat, axes=[1], keepdims=0)
        most = graph.add("Max", most, graph.constant(np.float32(_LEAST)))
        scale = graph.add(
            "Mul", most, graph.constant(np.float32(1 / (_MOST if lowest is None else _MOST_UNSIGNED)))
        )
        zeros = graph.add("Expand", graph.constant(np.array([zero], np.uint8)), graph.add("Shape", scale))
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
