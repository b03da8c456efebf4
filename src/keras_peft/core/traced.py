"""The traced functions of an adapted model, valid until its computation changes."""

from __future__ import annotations

import keras

from keras_peft.core.adapter import Placement
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
