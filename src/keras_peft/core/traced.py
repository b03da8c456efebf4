"""The traced functions of an adapted model, valid until its computation changes."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from keras_peft.core.adapter import Adapter, Placement
from keras_peft.core.base_interception import forget_compiled_functions
from keras_peft.core.mixed_batch import MixedBatchModel


class TracedFunctions:
    """Drops the traced functions of a model and its base when they become invalid.

    Args:
        model: The adapted model.
        base: Its base.

    Attributes:
        changes: Number of changes of the computation other than by training.
        mixed_models: The models for mixed batches, by the placements of their adapters.
    """

    def __init__(self, model: keras.Model, base: keras.Model) -> None:
        self._model, self._base = model, base
        self._generated_with: tuple[object, ...] = ()
        self.changes = 0
        self.mixed_models: dict[tuple[Placement, ...], MixedBatchModel] = {}

    def forget(self) -> None:
        """Call this when the computation changes."""
        self.changes += 1
        forget_compiled_functions(self._model)
        self.mixed_models.clear()

    def forget_weights(self) -> None:
        """Call this when only weights change, since the base's functions may contain them."""
        forget_compiled_functions(self._base)
        self.mixed_models.clear()

    def forget_older_weights(self, adapters: Iterable[Adapter]) -> None:
        """Call this before the base's functions run with adapters whose weights may have changed.

        JAX compiles the adapters' weights into the base's function as constants. JAX arrays are
        immutable, so different arrays mean different weights.
        """
        weights = [
            layer for adapter in adapters for layer in [*adapter.site_weights, *adapter.shared_weights]
        ]
        now = tuple(variable.value for layer in weights for variable in layer.values.values())
        if [id(value) for value in now] != [id(value) for value in self._generated_with]:
            forget_compiled_functions(self._base)
        self._generated_with = now
