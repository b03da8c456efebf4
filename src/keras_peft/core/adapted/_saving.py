"""How an adapted model is saved and loaded by Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_peft.core.adapted._base_class import REGISTERED_NAME
from keras_peft.core.adapted._training import TrainedModel
from keras_peft.errors import AdapterError


class SavedModel(TrainedModel):
    """An adapted model that Keras can save; see `AdaptedModel`."""

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves base, adapters and compilation as a `.keras` file, as in Keras.

        `keras.saving.load_model` loads it after `import keras_peft`. `save_adapter` writes a much
        smaller file, without the base.

        Args:
            args: As in Keras.
            kwargs: As in Keras.

        Raises:
            AdapterError: If the adapters are merged.

        Example:
            >>> model.save("adapted.keras")
            >>> model = keras.saving.load_model("adapted.keras")
        """
        self._refuse_merged("save the model")
        filepath = args[0] if args else kwargs.get("filepath")
        if str(filepath).endswith((".h5", ".hdf5")):
            raise AdapterError(
                f"{filepath}: the HDF5 format cannot store an adapted model; save it as a .keras file, or its adapter "
                "with keras_peft.save_adapter()."
            )
        optimizer = getattr(self, "optimizer", None)
        if optimizer is not None and not optimizer.built:  # Keras builds it when it loads the model.
            optimizer.build(self.trainable_variables)
        super().save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """Saves the original base weights and all adapters, active or not, as in Keras.

        Args:
            args: As in Keras.
            kwargs: As in Keras.

        Raises:
            AdapterError: If the adapters are merged.
        """
        self._refuse_merged("save weights")
        with self._registry.unmoved():
            super().save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Loads weights saved by `save_weights` of a model with the same adapters.

        Args:
            args: As in Keras.
            kwargs: As in Keras.

        Raises:
            AdapterError: If the adapters are merged.
        """
        self._refuse_merged("load weights")
        with self._registry.unmoved():
            super().load_weights(*args, **kwargs)
        self._traced.forget_weights()

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Stores the values of the base's own variables that are not in its layers now; called by Keras.

        For an active adapter, its layers have the trained values, otherwise the original ones.
        """
        for number, adapter in enumerate(self.adapters.values()):
            others = adapter.originals if adapter.is_active else adapter.trained
            for place, value in enumerate(others.values()):
                store[f"{number}.{place}"] = value

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Loads the values stored by `save_own_variables`; called by Keras."""
        for number, adapter in enumerate(self.adapters.values()):
            others = adapter.originals if adapter.is_active else adapter.trained
            others.update({key: np.array(store[f"{number}.{place}"]) for place, key in enumerate(others)})

    def export(self, filepath: Any, *args: Any, input_signature: Any = None, **kwargs: Any) -> None:
        """Exports the base, the active adapters and their head as in Keras.

        Args:
            filepath: As in Keras.
            args: As in Keras.
            input_signature: As in Keras. Defaults to the signature of a Functional base.
            kwargs: As in Keras.
        """
        if input_signature is None and hasattr(self.base, "input"):
            signature = keras.tree.map_structure(_without_batch, self.base.input)
            input_signature = [signature]
        super().export(filepath, *args, input_signature=input_signature, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns what is needed to build the same model with new weights, ready for JSON.

        Example:
            >>> copy = keras_peft.AdaptedModel.from_config(model.get_config())
        """
        base = keras.saving.serialize_keras_object(self.base)
        base.pop("compile_config", None)
        return {
            "name": self.name,
            "base": base,
            "adapters": [
                {
                    "name": name,
                    "parts": [placement.to_config() for placement in adapter.placements],
                    "head": keras.saving.serialize_keras_object(adapter.head),
                }
                for name, adapter in self.adapters.items()
            ],
            "active": list(self.active),
            "roles": self.roles,
            "pooling": self.pooling,
            "first_position_only": self.first_position_only,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Creates a model with the same base and adapters, and new weights.

        Args:
            config: The result of `get_config`.
            custom_objects: As in Keras.
        """
        reader = keras.saving.get_registered_object(REGISTERED_NAME)
        with keras.saving.custom_object_scope(custom_objects or {}):
            return reader.from_config(dict(config))

    def _run_through_graph(self, inputs: Any, *_: Any, **__: Any) -> Any:
        """Returns the outputs of a copy for symbolic inputs; called by `keras.models.clone_model`."""
        if self._rates:
            raise AdapterError(
                "clone_model() cannot copy a model that was compiled with `rates`; use "
                "keras_peft.AdaptedModel.from_config(model.get_config())."
            )
        with keras.saving.custom_object_scope(self._own_classes()):
            return type(self).from_config(self.get_config())(inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle finds neither the class, which depends on that of the base, nor its methods.
        _, state = super().__reduce__()
        return _unpickled, state

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        make, state = self.__reduce__()
        with keras.saving.custom_object_scope(self._own_classes()):
            memo[id(self)] = copied = make(*state)
        return copied

    def _own_classes(self) -> dict[str, type]:
        """Returns the classes of the base's layers by name; in this process, they need not be registered."""
        classes = {type(layer) for layer in self.base._flatten_layers()}
        return {keras.saving.get_registered_name(one): one for one in classes}


def _unpickled(*state: Any) -> Any:
    return keras.Model._unpickle_model(*state)


def _without_batch(tensor: keras.KerasTensor) -> keras.InputSpec:
    return keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)
