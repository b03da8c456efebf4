"""Reading adapted models from Keras's own files; importing this registers the reader with Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_peft import methods
from keras_peft.core.adapted import AdaptedModel as AdaptedModel


@keras.saving.register_keras_serializable("keras_peft", "AdaptedModel")
class AdaptedModelReader:
    """Creates adapted models from their configurations in `.keras` files."""

    def get_config(self) -> dict[str, Any]:
        """Returns nothing; Keras requires this method of all registered classes."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AdaptedModel:
        """Creates a model with the base and the adapters of a configuration, and new weights.

        Args:
            config: The result of `AdaptedModel.get_config`.
        """
        read = keras.saving.deserialize_keras_object
        first, *others = config["adapters"]
        model = AdaptedModel(
            read(config["base"]),
            methods.placements_from_config(first["parts"]),
            roles=config["roles"],
            head=read(first["head"]),
            adapter=first["name"],
            pooling=config["pooling"],
            first_position_only=config["first_position_only"],
            name=config["name"],
        )
        for adapter in others:
            model.add_adapter(
                adapter["name"], methods.placements_from_config(adapter["parts"]), head=read(adapter["head"])
            )
        model.activate(*config["active"])
        model.trainable = config["trainable"]
        return model
