"""What was traced of an adapted model, which holds for as long as the same is computed."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from keras_peft.core.adapter import Adapter, Placement
from keras_peft.core.base_interception import forget_compiled_functions
from keras_peft.core.mixed_batch import MixedBatchModel


class TracedFunctions:
    """Forgets what was traced of a model and its base as soon as it is of no use.

    Args:
        model: The adapted model.
        base: Its base.

    Attributes:
        changes: How often what is computed has changed other than by training.
        mixed: The models for rows of several adapters, by what the adapters are made of.
    """

    def __init__(self, model: keras.Model, base: keras.Model) -> None:
        self._model, self._base = model, base
        self._generated_with: tuple[object, ...] = ()
        self.changes = 0
        self.mixed_models: dict[tuple[Placement, ...], MixedBatchModel] = {}

    def forget(self) -> None:
        """Something else is computed from now on."""
        self.changes += 1
        forget_compiled_functions(self._model)
        self.mixed_models.clear()

    def forget_weights(self) -> None:
        """The same is computed with other weights, some of which the base's functions may hold."""
        forget_compiled_functions(self._base)
        self.mixed_models.clear()

    def forget_older_weights(self, adapters: Iterable[Adapter]) -> None:
        """The base's functions are called next with adapters whose weights may have moved since.

        JAX compiles the adapters' weights into the base's function as constants. Its
        arrays never change, so other arrays mean other weights.
        """
        weights = [
            layer for adapter in adapters for layer in [*adapter.site_weights, *adapter.shared_weights]
        ]
        now = tuple(variable.value for layer in weights for variable in layer.values.values())
        if [id(value) for value in now] != [id(value) for value in self._generated_with]:
            forget_compiled_functions(self._base)
        self._generated_with = now
