"""Rows and targets to the shuffled batches of an epoch.

Texts of like length share a batch, so little is computed for padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_peft.runtime.padding import padded, padded_length
from keras_peft.runtime.rows import EncodedRows
from keras_peft.store import Collector, arrays
from keras_peft.tasks import UNLABELLED

# Batches are cut from pools of shuffled rows sorted by length: small enough that
# each epoch groups other rows, large enough that a batch has rows of one length.
_POOL = 50


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled batches for `fit`, shuffled anew each epoch.

    Args:
        rows: The rows.
        targets: An array of as many targets, of any shape; or a sequence with an array
            (tokens,) for each row.
        batch_size: Rows in a batch; the last may have fewer.
        seed: The same seed gives the same batches in the same order.
        weights: How much each row counts; all the same by default.
        epoch: The epoch to begin with, counted from 0.
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

    def on_epoch_end(self) -> None:
        """Shuffles the rows anew; Keras calls it."""
        self._number += 1
        self._order = self._shuffled()

    def for_fit(self) -> Any:
        """Returns what `fit` is to be given.

        On TensorFlow that is a data set of its own without autotuning. At the end of an epoch
        a data set with it may wait for its tuning thread, which sleeps for as long as
        the epoch took. Its shapes are the signature's, so a step is traced once.
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
        """Lets go of the rows: TensorFlow never forgets a data set that was made in Python."""
        del self._rows, self._targets

    def _epoch(self) -> Iterator[tuple[Any, ...]]:
        for index in range(len(self)):
            yield self[index]
        self.on_epoch_end()

    def _shuffled(self) -> list[np.ndarray]:
        # An epoch's order depends on its number alone, so that training can begin with any.
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
    """Places targets of words at their first tokens, and `UNLABELLED` everywhere else.

    Args:
        rows: The rows.
        targets: An array (words,) for each of them. Where the rows have no words, anything.

    Returns:
        An int32 array (tokens,) for each row, or what was given.
    """
    if rows.words is None:
        return targets
    placed = Collector(arrays(np.int32))
    for length, own, places in zip(rows.lengths, targets, rows.words, strict=True):
        row = np.full(length, UNLABELLED, np.int32)
        row[places[places >= 0]] = own[places >= 0]
        placed.add(row)
    return placed.done()
