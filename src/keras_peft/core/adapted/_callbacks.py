"""Callbacks that `fit` adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_peft.core.layouts import gathered
from keras_peft.errors import AdapterError, listed

PARTS_NOTE = (
    "The base model {!r} has its own train_step(). If that trains the `trainable_variables` of its parts, these are "
    "frozen: it has to train those of the model itself, `self.trainable_variables`. Or adapt the part that should be "
    "trained, and use that in your model."
)
# Gradients may be accumulated, and a learning rate may start at zero.
_STEPS = 10


class TrainingCheck(keras.callbacks.Callback):
    """Stops training that changes the base, or that changes none of the adapters' weights.

    Layers of Keras keep their moving averages, but layers of the user's own may assign their statistics, and a base's
    own `train_step` may train anything.

    Args:
        base: The base.
        trained: The trainable variables of the adapters.
        moved: The variables of the base that adapters train.
        whole: Whether the base has its own `train_step`, so that everything is checked.
    """

    def __init__(
        self,
        base: keras.Model,
        trained: Mapping[str, keras.Variable],
        moved: Mapping[str, keras.Variable],
        *,
        whole: bool,
    ) -> None:
        super().__init__()
        own = set(map(id, moved.values()))
        found = base.variables if whole else _statistics(base)
        self._base = [v for v in found if id(v) not in own and keras.backend.is_float_dtype(v.dtype)]
        self._trained = list(trained.values()) if whole else []
        self._name = base.name
        self._before: list[np.ndarray] = []
        self._at_start: list[np.ndarray] = []
        self._steps = 0

    @property
    def has_work(self) -> bool:
        """Whether there is anything to check. Keras waits for each batch if a callback like this is there."""
        return bool(self._base or self._trained)

    def on_train_begin(self, logs: Any = None) -> None:
        self._before, self._at_start = _values(self._base), _values(self._trained)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._steps += 1
        if self._steps == 1 and self._base:
            self._sync()
            self._refuse_changed()
        if self._steps == _STEPS:
            self._refuse_unchanged()

    def on_train_end(self, logs: Any = None) -> None:
        self._sync()
        self._refuse_changed()
        if self._steps < _STEPS:
            self._refuse_unchanged()

    def restore(self) -> None:
        """Restores what changed in the base."""
        for variable, value in zip(self._base, self._before, strict=False):
            if not np.array_equal(gathered(variable), value):
                variable.assign(value)

    def _sync(self) -> None:
        if keras.config.backend() == "jax":
            self.model.jax_state_sync()

    def _refuse_changed(self) -> None:
        pairs = zip(self._base, self._before, _values(self._base), strict=True)
        if changed := [variable.path for variable, before, now in pairs if not np.array_equal(before, now)]:
            raise AdapterError(
                f"Training changes {listed(changed, most=3)} of the base model, which is shared by all adapters and "
                "would have to be saved with each. They have their old values again. Stop the layers from updating "
                "them while the base model is adapted, or train only `self.trainable_variables` in a train_step()."
            )

    def _refuse_unchanged(self) -> None:
        if not self._trained:
            return
        self._sync()
        pairs = zip(self._at_start, _values(self._trained), strict=True)
        if any(not np.array_equal(before, now) for before, now in pairs) or self._is_preparing():
            return
        note = PARTS_NOTE.format(self._name)
        raise AdapterError(
            f"The train_step() of {self._name!r} did not change any weight of the adapters. {note}"
        )

    def _is_preparing(self) -> bool:
        """Returns whether the optimizer may have had gradients without applying them yet."""
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            return False
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if not float(keras.ops.convert_to_numpy(optimizer.learning_rate)):
            return True
        state = [v for v in optimizer.variables if v.name not in ("iteration", "learning_rate", "iterations")]
        return any(
            np.any(value) for value in _values(v for v in state if keras.backend.is_float_dtype(v.dtype))
        )


def _statistics(base: keras.Model) -> list[keras.Variable]:
    """Returns the variables that layers of the user's own keep as state, such as moving averages."""
    return [
        variable
        for layer in base._flatten_layers()
        if type(layer).__module__.split(".")[0] not in ("keras", "keras_hub")
        for variable in layer._non_trainable_variables
    ]


def _values(variables: Iterable[keras.Variable]) -> list[np.ndarray]:
    return [np.array(gathered(variable)) for variable in variables]
