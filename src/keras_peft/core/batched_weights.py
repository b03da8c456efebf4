"""Arithmetic in which a weight may carry a leading batch axis.

The same lines then train one adapter and serve a batch in which every row has
another one.
"""

from __future__ import annotations

from typing import Any

from keras import ops


def multiply(x: Any, matrix: Any) -> Any:
    """Multiplies (batch, …, in) by (in, out), or by (batch, in, out) row by row."""
    if len(matrix.shape) == 2:
        return ops.matmul(x, matrix)
    if len(x.shape) == 3:
        return ops.matmul(x, matrix)
    shape = ops.shape(x)
    flat = ops.reshape(x, (shape[0], -1, shape[-1]))
    return ops.reshape(ops.matmul(flat, matrix), (*shape[:-1], matrix.shape[-1]))


def align(vector: Any, x: Any) -> Any:
    """Shapes (dim,), or (batch, dim) with one vector a row, to act on (batch, …, dim)."""
    if len(vector.shape) == 1:
        return vector
    return ops.reshape(vector, (ops.shape(vector)[0], *(1,) * (len(x.shape) - 2), vector.shape[-1]))


def spread(rows: Any, x: Any) -> Any:
    """Gives (n, dim) the batch axis of x; (batch, n, dim) has it already."""
    if len(rows.shape) == 3:
        return rows
    return ops.broadcast_to(ops.expand_dims(rows, 0), (ops.shape(x)[0], *rows.shape))
