"""The traced functions of an adapted model, valid until its computation changes."""

from __future__ import annotations

import weakref
from typing import Any

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
        # Models that contain the adapted model, whose functions contain its computation.
        self._containers: weakref.WeakSet[keras.Model] = weakref.WeakSet()
        self.changes = 0
        self.mixed_models: dict[tuple[Placement, ...], MixedBatchModel] = {}

    def forget(self) -> None:
        """Call this when the computation changes."""
        self.changes += 1
        for model in (self._model, *self._containers):
            forget_compiled_functions(model)
        self.mixed_models.clear()

    def remember_container(self, context: Any) -> None:
        """Remembers the model that is being called, if it contains the adapted model.

        Args:
            context: Keras's context of the call.
        """
        outermost = getattr(context, "entry_layer", None)
        if isinstance(outermost, keras.Model) and outermost is not self._model:
            self._containers.add(outermost)

    def forget_weights(self) -> None:
        """Call this when only weights change, since the base's functions may contain them."""
        forget_compiled_functions(self._base)
        self.mixed_models.clear()
