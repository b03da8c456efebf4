"""Rows of several lengths to arrays of one.

A backend that compiles for each shape gets lengths and numbers of rows from a short
list, so it does so a few times only. The others take them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

# What a backend that compiles for each shape has to compile for.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def padded_length(length: int) -> int:
    """Returns what rows of up to so many tokens are padded to.

    It is that many, or the shortest length of the list that is long enough where the
    backend compiles for each.
    """
    if not _compiles_for_each_shape():
        return int(length)
    return next((known for known in LENGTHS if known >= length), int(length))


def padded_rows(rows: int) -> int:
    """Returns so many rows, or the next power of two where the backend compiles for each number."""
    return 1 << (rows - 1).bit_length() if _compiles_for_each_shape() else rows


def padded(rows: Sequence[np.ndarray], length: int, fill: Any = 0) -> np.ndarray:
    """Lays rows into one array.

    Args:
        rows: Arrays (at most `length`, …) of one type, at least one.
        length: The common length.
        fill: What stands after a row's end.

    Returns:
        An array (rows, length, …) of their type.
    """
    whole = np.zeros((len(rows), length, *rows[0].shape[1:]), rows[0].dtype)
    if fill:
        whole[:] = fill
    for place, row in enumerate(rows):
        whole[place, : len(row)] = row
    return whole


def token_inputs(ids: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Pads token ids to what an encoder reads.

    Args:
        ids: Those of each row, (tokens,) int32; at least one row.

    Returns:
        `token_ids` and `padding_mask`, both (rows, length) int32.
    """
    token_ids = padded(ids, padded_length(max(map(len, ids))))
    padding_mask = np.zeros(token_ids.shape, np.int32)
    for place, own in enumerate(ids):
        padding_mask[place, : len(own)] = 1
    return {"token_ids": token_ids, "padding_mask": padding_mask}


def token_signature() -> dict[str, keras.KerasTensor]:
    """Returns what `token_inputs` gives, with None for the axes that vary."""
    import keras

    return {name: keras.KerasTensor((None, None), "int32") for name in ("token_ids", "padding_mask")}


def _compiles_for_each_shape() -> bool:
    import keras

    return bool(keras.config.backend() == "jax")
