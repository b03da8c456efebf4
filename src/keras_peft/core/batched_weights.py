"""Operations whose weights may have a leading batch axis.

The same code then trains one adapter and serves a batch with a different adapter per row.
"""

from __future__ import annotations

from typing import Any

from keras_peft.core.arrays import operations


def multiply(x: Any, matrix: Any) -> Any:
    """Multiplies (batch, …, in) by (in, out), or by (batch, in, out) row by row."""
    ops = operations(x)
    if len(matrix.shape) == 2:
        return ops.matmul(x, matrix)
    if len(x.shape) == 3:
        return ops.matmul(x, matrix)
    shape = ops.shape(x)
    flat = ops.reshape(x, (shape[0], -1, shape[-1]))
    return ops.reshape(ops.matmul(flat, matrix), (*shape[:-1], matrix.shape[-1]))


def align(vector: Any, x: Any) -> Any:
    """Reshapes a vector (dim,), or one per row (batch, dim), to broadcast with (batch, …, dim)."""
    if len(vector.shape) == 1:
        return vector
    ops = operations(vector)
    return ops.reshape(vector, (ops.shape(vector)[0], *(1,) * (len(x.shape) - 2), vector.shape[-1]))


def spread(rows: Any, x: Any) -> Any:
    """Adds the batch axis of x to (n, dim); returns (batch, n, dim) unchanged."""
    if len(rows.shape) == 3:
        return rows
    ops = operations(rows)
    return ops.broadcast_to(ops.expand_dims(rows, 0), (ops.shape(x)[0], *rows.shape))
