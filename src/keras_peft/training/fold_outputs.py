"""The outputs of the folds of a training run, saved after each fold, so that no fold is trained twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from keras_peft.training.checkpoint import Checkpoint, TrainingState

_VALUES, _LENGTHS, _UNLABELLED = "values", "lengths", "unlabelled"


@dataclass
class FoldOutputs:
    """The outputs of the folds that are trained.

    Attributes:
        epochs: For each fold, the outputs on its rows after each epoch.
        unlabelled: For each fold, the outputs on the rows without labels at its end; empty without such rows.
    """

    checkpoint: Checkpoint | None = None
    epochs: list[list[Any]] = field(default_factory=list)
    unlabelled: list[Any] = field(default_factory=list)

    @classmethod
    def read(cls, checkpoint: Checkpoint | None) -> Self:
        """Reads the outputs that an interrupted run saved.

        Args:
            checkpoint: Where they are, and where further ones are saved; None to save nothing.

        Raises:
            OptionError: If they belong to another run or are damaged.
        """
        found = cls(checkpoint)
        state = None if checkpoint is None else checkpoint.read()
        if state is None:
            return found
        for fold, epochs in enumerate(state.content["epochs"]):
            found.epochs.append([_unpacked(state.tensors, f"{fold}/{epoch:06}") for epoch in range(epochs)])
            if state.content[_UNLABELLED]:
                found.unlabelled.append(_unpacked(state.tensors, f"{fold}/{_UNLABELLED}"))
        return found

    def add(self, epochs: Sequence[Any], unlabelled: Any) -> None:
        """Adds a fold and saves all.

        Args:
            epochs: The outputs on its rows after each epoch.
            unlabelled: The outputs on the rows without labels, None if there are none.
        """
        self.epochs.append(list(epochs))
        if unlabelled is not None:
            self.unlabelled.append(unlabelled)
        if self.checkpoint is None:
            return
        try:
            self.checkpoint.write(self._state())
        except OSError:  # Training can finish without checkpoints. That of the last round will say it.
            self.checkpoint = None

    def _state(self) -> TrainingState:
        tensors: dict[str, np.ndarray] = {}
        for fold, epochs in enumerate(self.epochs):
            for epoch, outputs in enumerate(epochs):
                tensors |= _packed(outputs, f"{fold}/{epoch:06}")
        for fold, outputs in enumerate(self.unlabelled):
            tensors |= _packed(outputs, f"{fold}/{_UNLABELLED}")
        content = {"epochs": [len(epochs) for epochs in self.epochs], _UNLABELLED: bool(self.unlabelled)}
        return TrainingState(tensors, content)


def _packed(outputs: Any, name: str) -> dict[str, np.ndarray]:
    """Returns outputs as tensors: an array, or for tagging, an array for each text."""
    if isinstance(outputs, np.ndarray):
        return {f"{name}/{_VALUES}": outputs}
    lengths = np.array([len(one) for one in outputs], np.int64)
    return {f"{name}/{_VALUES}": np.concatenate(outputs), f"{name}/{_LENGTHS}": lengths}


def _unpacked(tensors: Mapping[str, np.ndarray], name: str) -> Any:
    """Returns the outputs that `_packed` made tensors of."""
    values = tensors[f"{name}/{_VALUES}"]
    if f"{name}/{_LENGTHS}" not in tensors:
        return values
    return np.split(values, np.cumsum(tensors[f"{name}/{_LENGTHS}"])[:-1])
