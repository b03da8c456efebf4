"""The same arithmetic on NumPy arrays and on tensors of Keras's backend.

Merged weights are computed in NumPy, also where Keras is not installed; in training and inference, the same
expressions run on tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def operations(x: Any) -> Any:
    """Returns the module with the operations for a value: `numpy` or `keras.ops`.

    Only the names and arguments that both have may be used, such as `sum`, `matmul` or `swapaxes`.

    Args:
        x: A NumPy array or a tensor.

    Example:
        >>> operations(np.ones(3)) is np
        True
    """
    if isinstance(x, np.ndarray):
        return np
    from keras import ops

    return ops


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """Reshapes a NumPy array or a tensor."""
    return operations(x).reshape(x, shape)


def transpose(x: Any, axes: tuple[int, ...]) -> Any:
    """Transposes a NumPy array or a tensor."""
    return operations(x).transpose(x, axes)


def concatenate(parts: Sequence[Any]) -> Any:
    """Concatenates NumPy arrays or tensors along the first axis."""
    return operations(parts[0]).concatenate(parts)


def constant(x: Any) -> Any:
    """Returns a value through which no gradients flow."""
    return x if isinstance(x, np.ndarray) else _ops().stop_gradient(x)


def sigmoid(x: Any) -> Any:
    """Computes 1 / (1 + exp(-x)), which does not overflow for large values."""
    return 0.5 + 0.5 * operations(x).tanh(0.5 * x)


def solve(matrix: Any, values: Any) -> Any:
    """Solves linear equations: returns X with `matrix` X = `values`, all (…, n, n)."""
    return np.linalg.solve(matrix, values) if isinstance(matrix, np.ndarray) else _ops().solve(matrix, values)


def orthonormal(matrix: Any) -> Any:
    """Returns the orthonormal columns of the QR decomposition of a matrix (…, rows, columns)."""
    return np.linalg.qr(matrix)[0] if isinstance(matrix, np.ndarray) else _ops().qr(matrix)[0]


def _ops() -> Any:
    from keras import ops

    return ops
