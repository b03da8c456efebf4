"""The rows of training batches that one process computes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_peft.tasks import UNLABELLED
from keras_peft.training.batches import TrainingBatches


class BatchParts(keras.utils.PyDataset):
    """A process's part of each batch of `TrainingBatches`, padded to the length of the whole batch.

    If the rows of a batch cannot be divided equally, rows without weight complete it, and the weights of the others
    rise, so that the loss is that of the batch.

    Args:
        batches: The batches, which are the same in all processes.
        rank: Number of this process.
        count: Number of processes.
        devices: Number of devices of all processes.
    """

    def __init__(self, batches: TrainingBatches, *, rank: int, count: int, devices: int) -> None:
        super().__init__()
        self._batches = batches
        self._rank, self._count, self._devices = rank, count, devices

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        inputs, targets, *weights = self._batches[index]
        rows = len(targets)
        added = added_rows(rows, self._devices)
        weight = np.ones(rows, np.float32) if not weights else np.asarray(weights[0], np.float32)
        # The loss is a mean over all rows, with those that are added.
        weight = weight * np.float32((rows + added) / rows)
        of_added = UNLABELLED if self._batches.has_words else targets[:1]
        targets = np.concatenate([targets, np.broadcast_to(of_added, (added, *targets.shape[1:]))])
        weight = np.concatenate([weight, np.zeros(added, np.float32)])
        inputs = keras.tree.map_structure(
            lambda values: np.concatenate([values, np.repeat(values[:1], added, axis=0)]), inputs
        )
        size = (rows + added) // self._count
        part = slice(self._rank * size, (self._rank + 1) * size)
        parts: tuple[Any, ...] = keras.tree.map_structure(
            lambda values: values[part], (inputs, targets, weight)
        )
        return parts

    def on_epoch_end(self) -> None:
        """Reshuffles the rows; called by Keras."""
        self._batches.on_epoch_end()


def added_rows(rows: int, devices: int) -> int:
    """Returns the number of rows that a batch lacks to be divided equally.

    Args:
        rows: Rows of the batch.
        devices: Number of devices.
    """
    return -rows % devices
