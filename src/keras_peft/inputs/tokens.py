"""Encoded rows: their token ids, and what a batch of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from keras_peft.runtime.padding import token_inputs, token_signature

if TYPE_CHECKING:
    import keras


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
        return token_signature()

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Pads some rows to a common length.

        Returns:
            `token_ids` and `padding_mask`, both (batch, length) int32.
        """
        return token_inputs([self.ids[row] for row in rows])
