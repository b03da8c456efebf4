"""What an adapter changes on a base while it is attached, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from keras_peft.core import intercept


class Hold:
    """Freezes a base, lets some variables move, and intercepts calls, until `release`.

    It is no Keras object, so what it remembers is not tracked, saved or counted as
    part of a model.

    Args:
        base: The model.
        moved: The variables of the base that may move, by key. All others are frozen.
        attachments: Layers and the functions to put around their calls.
    """

    def __init__(
        self,
        base: keras.Model,
        moved: Mapping[str, keras.Variable],
        attachments: Sequence[tuple[keras.Layer, intercept.Around]],
    ) -> None:
        self._base = base
        self.moved = dict(moved)
        self._attachments = list(attachments)
        self._originals = {key: keras.ops.convert_to_numpy(variable) for key, variable in moved.items()}
        self._were_trainable = {id(variable) for variable in base.variables if variable.trainable}
        self.is_released = False
        moving = {id(variable) for variable in moved.values()}
        for variable in base.variables:
            variable.trainable = id(variable) in moving
        for layer, around in self._attachments:
            intercept.attach(layer, around)
        _forget_compiled_functions(base)

    def release(self) -> None:
        """Gives the base back as it was, bit for bit; a second time does nothing."""
        if self.is_released:
            return
        for layer, around in self._attachments:
            intercept.detach(layer, around)
        for key, variable in self.moved.items():
            variable.assign(self._originals[key])
        for variable in self._base.variables:
            variable.trainable = id(variable) in self._were_trainable
        _forget_compiled_functions(self._base)
        self.is_released = True


def _forget_compiled_functions(base: keras.Model) -> None:
    """Drops what Keras has traced of the models in a base, with the calls of that time in it."""
    for layer in base._flatten_layers(include_self=True, recursive=True):
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None
            if hasattr(layer, "generate_function"):
                layer.generate_function = None
