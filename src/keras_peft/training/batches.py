"""Shuffled training batches.

Texts of similar length share a batch, which keeps padding small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_peft.runtime.padding import padded, padded_length
from keras_peft.runtime.rows import EncodedRows
from keras_peft.store import Collector, arrays
from keras_peft.tasks import UNLABELLED

# Batches come from pools of shuffled rows, sorted by length. A pool is small enough to
# vary the batches between epochs, and large enough for batches of similar lengths.
_POOL = 50


def batch_count(rows: int, batch_size: int) -> int:
    """Returns the number of batches in an epoch.

    Args:
        rows: Number of rows.
        batch_size: Rows per batch.
    """
    # A pool is a multiple of the batch size, so only the last batch has fewer rows.
    return math.ceil(rows / batch_size)


class TrainingBatches(keras.utils.PyDataset):
    """Batches for `fit`, reshuffled in each epoch.

    Args:
        rows: The training rows.
        targets: An array with one target per row, of any shape, or a sequence with one array
            (tokens,) per row.
        batch_size: Rows per batch; the last batch may have fewer.
        seed: Random seed. The same seed gives the same batches in the same order.
        weights: Weight of each row; equal by default.
        epoch: The epoch to start with, counted from 0.
    """

    def __init__(
        self,
        rows: EncodedRows,
        targets: np.ndarray | Sequence[np.ndarray],
        batch_size: int,
        seed: int,
        weights: np.ndarray | None = None,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self._rows = rows
        self._targets = targets
        self._weights = weights
        self._batch_size = batch_size
        self._seed, self._number = seed, epoch
        self._lengths = rows.lengths
        self._order = self._shuffled()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        batch = self._order[index]
        if isinstance(self._targets, np.ndarray):
            targets = self._targets[batch]
        else:
            length = padded_length(int(self._lengths[batch].max()))
            targets = padded([self._targets[row] for row in batch], length, UNLABELLED)
        weights = () if self._weights is None else (self._weights[batch],)
        return self._rows.batch(batch), targets, *weights

    @property
    def has_words(self) -> bool:
        """Whether the targets are those of words."""
        return not isinstance(self._targets, np.ndarray)

    def size(self, index: int) -> int:
        """Returns the number of rows of a batch.

        Args:
            index: Number of the batch in the epoch.
        """
        return len(self._order[index])

    def on_epoch_end(self) -> None:
        """Reshuffles the rows; called by Keras."""
        self._number += 1
        self._order = self._shuffled()

    def for_fit(self) -> Any:
        """Returns the dataset to pass to `fit`.

        On TensorFlow, this is a `tf.data` dataset without autotuning: at the end of an epoch, an
        autotuned dataset can wait for its tuning thread, which sleeps for as long as the epoch
        took. The dataset has the shapes of the signature, so a step is traced once.
        """
        if keras.config.backend() != "tensorflow":
            return self
        import tensorflow as tf

        def specify(tensor: keras.KerasTensor) -> Any:
            return tf.TensorSpec(tensor.shape, tensor.dtype)

        rows = keras.tree.map_structure(specify, self._rows.signature)
        if isinstance(self._targets, np.ndarray):
            targets = tf.TensorSpec((None, *self._targets.shape[1:]), self._targets.dtype)
        else:
            targets = tf.TensorSpec((None, None), self._targets[0].dtype)
        weights = () if self._weights is None else (tf.TensorSpec((None,), self._weights.dtype),)
        options = tf.data.Options()
        options.autotune.enabled = False
        made = tf.data.Dataset.from_generator(self._epoch, output_signature=(rows, targets, *weights))
        return (
            made.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(2).with_options(options)
        )

    def release(self) -> None:
        """Releases the rows; TensorFlow keeps references to datasets made in Python forever."""
        del self._rows, self._targets

    def _epoch(self) -> Iterator[tuple[Any, ...]]:
        for index in range(len(self)):
            yield self[index]
        self.on_epoch_end()

    def _shuffled(self) -> list[np.ndarray]:
        # The order depends only on the epoch's number, so training can resume at any epoch.
        generator = np.random.default_rng([self._seed, self._number])
        rows = generator.permutation(len(self._lengths))
        batches: list[np.ndarray] = []
        pool = self._batch_size * _POOL
        for start in range(0, len(rows), pool):
            part = rows[start : start + pool]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += [part[i : i + self._batch_size] for i in range(0, len(part), self._batch_size)]
        return [batches[i] for i in generator.permutation(len(batches))]


def by_token(rows: EncodedRows, targets: Any) -> Any:
    """Moves the targets of words to their first tokens; all other tokens are `UNLABELLED`.

    Args:
        rows: The rows.
        targets: One array (words,) per row. Can be of any type if the rows have no words.

    Returns:
        One int32 array (tokens,) per row, or `targets` unchanged if the rows have no words.
    """
    if rows.words is None:
        return targets
    placed = Collector(arrays(np.int32))
    for length, own, places in zip(rows.lengths, targets, rows.words, strict=True):
        row = np.full(length, UNLABELLED, np.int32)
        row[places[places >= 0]] = own[places >= 0]
        placed.add(row)
    return placed.done()
