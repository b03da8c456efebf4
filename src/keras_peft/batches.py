"""Token ids to padded batches of a few fixed lengths.

Texts of like length share a batch, so little is computed for padding, and the
lengths come from a short list, so that a backend that compiles for each shape
does so a few times only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_peft.tokens import Tokens

LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Batches are cut from pools of shuffled rows sorted by length: small enough that
# each epoch groups other rows, large enough that a batch has rows of one length.
_POOL = 50


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled batches for `fit`, shuffled anew each epoch.

    Args:
        tokens: The rows.
        targets: As many targets, of any shape.
        batch_size: Rows in a batch; the last may have fewer.
        seed: The same seed gives the same batches in the same order.
    """

    def __init__(self, tokens: Tokens, targets: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__()
        self._tokens = tokens
        self._targets = targets
        self._batch_size = batch_size
        self._generator = np.random.default_rng(seed)
        self._lengths = np.array([len(ids) for ids in tokens.ids])
        self._order = self._shuffled()
        # Keras takes the shapes of the first two batches for the shapes of all, and
        # lets vary only the axes in which these two differ.
        padded = [padded_length(self._lengths[rows].max()) for rows in self._order]
        other = next((n for n, length in enumerate(padded) if length != padded[0]), 0)
        if other > 1:
            self._order[1], self._order[other] = self._order[other], self._order[1]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        rows = self._order[index]
        return pad([self._tokens.ids[row] for row in rows]), self._targets[rows]

    def on_epoch_end(self) -> None:
        """Shuffles the rows anew; Keras calls it."""
        self._order = self._shuffled()

    def _shuffled(self) -> list[np.ndarray]:
        rows = self._generator.permutation(len(self._tokens))
        batches: list[np.ndarray] = []
        pool = self._batch_size * _POOL
        for start in range(0, len(rows), pool):
            part = rows[start : start + pool]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += [part[i : i + self._batch_size] for i in range(0, len(part), self._batch_size)]
        return [batches[i] for i in self._generator.permutation(len(batches))]


def inference_batches(tokens: Tokens, batch_size: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Cuts rows into batches by length.

    Yields:
        The positions of a batch's rows, and its inputs.
    """
    order = np.argsort([len(ids) for ids in tokens.ids], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, pad([tokens.ids[row] for row in rows])


def pad(ids: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Pads rows to a common length.

    Returns:
        `token_ids` and `padding_mask`, both (batch, length) int32.
    """
    length = padded_length(max(map(len, ids)))
    token_ids = np.zeros((len(ids), length), np.int32)
    padding_mask = np.zeros((len(ids), length), np.int32)
    for row, values in enumerate(ids):
        token_ids[row, : len(values)] = values
        padding_mask[row, : len(values)] = 1
    return {"token_ids": token_ids, "padding_mask": padding_mask}


def padded_length(length: int) -> int:
    """Returns the shortest length of the list that is long enough."""
    return next((known for known in LENGTHS if known >= length), int(length))
