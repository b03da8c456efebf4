"""Encoded rows: their token ids, and what a batch of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

# What a backend that compiles for each shape has to compile for.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class Tokens:
    """The token ids of some texts.

    Attributes:
        ids: For each text an int32 array of its ids, special tokens included. A tuple, or
            where they are many a view on a file.
        truncated: How many texts were cut.
        words: Where the texts came in words, the position of each word's first token,
            -1 for one that was cut off or has none: int64 arrays.
        owners: Where long texts are read in windows, which text each row is of, (rows,)
            int64, in the order of the texts.
    """

    ids: Sequence[np.ndarray]
    truncated: int
    words: Sequence[np.ndarray] | None = None
    owners: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text, (rows,) int64."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    @property
    def signature(self) -> dict[str, keras.KerasTensor]:
        """What a batch is, with None for the axes that vary."""
        import keras

        return {name: keras.KerasTensor((None, None), "int32") for name in ("token_ids", "padding_mask")}

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Pads some rows to a common length.

        Returns:
            `token_ids` and `padding_mask`, both (batch, length) int32.
        """
        shape = (len(rows), padded_length(int(self.lengths[rows].max())))
        token_ids, padding_mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for position, row in enumerate(rows):
            token_ids[position, : self.lengths[row]] = self.ids[row]
            padding_mask[position, : self.lengths[row]] = 1
        return {"token_ids": token_ids, "padding_mask": padding_mask}


def padded_length(length: int) -> int:
    """Returns what rows of up to so many tokens are padded to.

    It is that many, or the shortest length of the list that is long enough where the
    backend compiles for each.
    """
    import keras

    if keras.config.backend() != "jax":
        return int(length)
    return next((known for known in LENGTHS if known >= length), int(length))
