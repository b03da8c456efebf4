"""The traced functions of an adapted model, valid until its computation changes."""

from __future__ import annotations

import gc
import weakref

import keras
from keras.src.backend.common import global_state

from keras_peft.core.base_interception import forget_compiled_functions
from keras_peft.core.mixed_batch import MixedBatchModel
from keras_peft.core.placement import Placement


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
        for model in (self._model, *self._all_containers()):
            forget_compiled_functions(model)
        self.mixed_models.clear()

    def remember_container(self) -> None:
        """Remembers the model that is being called now, if it contains the adapted model."""
        # A layer would create a context, which would stay.
        context = global_state.get_global_attribute("current_call_ctx")
        outermost = getattr(context, "entry_layer", None)
        if isinstance(outermost, keras.Model) and outermost is not self._model:
            self._containers.add(outermost)

    def _all_containers(self) -> list[keras.Model]:
        """Returns the models whose functions contain the adapted model's computation."""
        found = list(self._containers)
        if keras.config.backend() != "tensorflow" and self._model._inbound_nodes:
            # These backends do not call the containing model itself when they trace it.
            models = [one for one in gc.get_objects() if issubclass(type(one), keras.Model)]
            found += [
                one for one in models if one is not self._model and self._model in one._flatten_layers()
            ]
        return found

    def forget_weights(self) -> None:
        """Call this when only weights change, since the base's functions may contain them."""
        forget_compiled_functions(self._base)
        self.mixed_models.clear()
