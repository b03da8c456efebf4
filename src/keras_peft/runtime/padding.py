"""Pad rows of different lengths to arrays.

Backends that compile for each shape get lengths and row counts from a short list, so they compile
only a few times. Others get the exact sizes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

# The lengths that backends compile for.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def padded_length(length: int) -> int:
    """Returns the length that rows of up to `length` tokens are padded to.

    This is `length` itself, or the next larger length in `LENGTHS` if the backend compiles for each
    shape.
    """
    if not _compiles_for_each_shape():
        return int(length)
    return next((known for known in LENGTHS if known >= length), int(length))


def padded_rows(rows: int) -> int:
    """Returns the number of rows, rounded up to a power of two if the backend compiles for each shape."""
    return 1 << (rows - 1).bit_length() if _compiles_for_each_shape() else rows


def padded(rows: Sequence[np.ndarray], length: int, fill: Any = 0) -> np.ndarray:
    """Pads rows and stacks them into one array.

    Args:
        rows: Arrays (at most `length`, …) of one dtype, at least one.
        length: The common length.
        fill: The padding value.

    Returns:
        An array (rows, length, …) of their dtype.
    """
    whole = np.zeros((len(rows), length, *rows[0].shape[1:]), rows[0].dtype)
    if fill:
        whole[:] = fill
    for place, row in enumerate(rows):
        whole[place, : len(row)] = row
    return whole


def token_inputs(ids: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Pads token ids to the inputs of an encoder.

    Args:
        ids: Token ids of each row, (tokens,) int32; at least one row.

    Returns:
        `token_ids` and `padding_mask`, both (rows, length) int32.
    """
    token_ids = padded(ids, padded_length(max(map(len, ids))))
    padding_mask = np.zeros(token_ids.shape, np.int32)
    for place, own in enumerate(ids):
        padding_mask[place, : len(own)] = 1
    return {"token_ids": token_ids, "padding_mask": padding_mask}


def token_signature() -> dict[str, keras.KerasTensor]:
    """Returns the structure of `token_inputs`' result, with None for variable axes."""
    import keras

    return {name: keras.KerasTensor((None, None), "int32") for name in ("token_ids", "padding_mask")}


def _compiles_for_each_shape() -> bool:
    keras = sys.modules.get("keras")  # Where Keras is not imported, it does not run the model.
    return keras is not None and bool(keras.config.backend() == "jax")
