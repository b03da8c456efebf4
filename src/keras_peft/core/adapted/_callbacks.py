"""Callbacks that `fit` adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_peft.errors import AdapterError

# A learning rate may start at zero, so the first steps may change nothing.
_STEPS = 10


class TrainingCheck(keras.callbacks.Callback):
    """Stops training if a base's own `train_step` leaves all weights of the adapters as they are.

    Args:
        variables: The trainable variables of the adapters.
    """

    def __init__(self, variables: Mapping[str, keras.Variable]) -> None:
        super().__init__()
        self._variables = dict(variables)
        self._before: dict[str, np.ndarray] = {}
        self._is_done = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._before = self._values()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._is_done and batch + 1 == _STEPS:
            self._check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._is_done:
            self._check()

    def _values(self) -> dict[str, np.ndarray]:
        if keras.config.backend() == "jax":
            self.model.jax_state_sync()
        return {key: np.array(keras.ops.convert_to_numpy(one)) for key, one in self._variables.items()}

    def _check(self) -> None:
        self._is_done = True
        now = self._values()
        if any(not np.array_equal(now[key], before) for key, before in self._before.items()):
            return
        raise AdapterError(
            f"The train_step() of {self.model.base.name!r} did not change any weight of the adapters. It may train "
            "the `trainable_variables` of its parts, which are frozen; it has to train those of the model itself: "
            "`self.trainable_variables`. Or adapt the part that should be trained, and use that in your model."
        )
