"""Encoded rows: token ids and padded batches."""

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
    """Token ids of encoded texts.

    Attributes:
        ids: One int32 array (tokens,) per text, including special tokens; one per window if long
            texts are read in windows. A tuple, or a file-backed sequence if there are many.
        truncated: Number of texts that were cut.
        words: For rows of words, one int64 array (words,) per row with the position of each word's
            first token; -1 if the word was cut off or has no token.
        owners: For texts read in windows, the position of the text of each row, (rows,) int64,
            ascending.
    """

    ids: Sequence[np.ndarray]
    truncated: int
    words: Sequence[np.ndarray] | None = None
    owners: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of tokens per row, (rows,) int64."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    @property
    def signature(self) -> dict[str, keras.KerasTensor]:
        """Symbolic inputs of a batch, with None for the axes that vary."""
        return token_signature()

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Pads some rows to a common length.

        Args:
            rows: Positions of the rows, (batch,).

        Returns:
            `token_ids` and `padding_mask`, both (batch, length) int32.
        """
        return token_inputs([self.ids[row] for row in rows])
