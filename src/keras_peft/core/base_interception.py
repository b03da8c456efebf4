"""Intercept the layers of a base while adapters are attached, and restore it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import keras

from keras_peft.core import intercept
from keras_peft.core.sites import Site
from keras_peft.errors import AdapterError, OptionError, SelectionError, listed

Attachments = Sequence[tuple[keras.Layer, intercept.Wrapper]]


class BaseInterception:
    """Freezes a base and intercepts the calls of its layers, until `release`.

    This is not a Keras object, so its state is not tracked, saved or counted as part of a model.

    Args:
        base: The model. All its variables are frozen.
    """

    def __init__(self, base: keras.Model) -> None:
        self._base = base
        self._attachments: Attachments = ()
        self._were_trainable = {id(variable) for variable in base.variables if variable.trainable}
        self.is_released = False
        for variable in base.variables:
            variable.trainable = False

    def attach(self, attachments: Attachments) -> Attachments:
        """Replaces the wrappers around the layers' calls and returns the previous ones.

        Args:
            attachments: Layers and the wrappers around their calls, innermost first.
        """
        before = self._attachments
        for layer, wrapper in before:
            intercept.detach(layer, wrapper)
        for layer, wrapper in attachments:
            intercept.attach(layer, wrapper)
        self._attachments = tuple(attachments)
        return before

    @contextmanager
    def attached(self, attachments: Attachments) -> Iterator[None]:
        """Replaces the wrappers around the layers' calls within the context."""
        before = self.attach(attachments)
        try:
            yield
        finally:
            self.attach(before)

    def release(self) -> None:
        """Removes all wrappers and restores the trainable flags. Calling it again has no effect."""
        if self.is_released:
            return
        self.attach(())
        for variable in self._base.variables:
            variable.trainable = id(variable) in self._were_trainable
        self.is_released = True


def refuse_unbuilt(base: keras.Model) -> None:
    """Checks that a base is built.

    Raises:
        OptionError: If it is not.
    """
    if not base.built:
        raise OptionError(
            f"The base model {base.name!r} is not built, so its layers have no weights yet; call it "
            "once on an input, or call its build() method, before you adapt it."
        )


def refuse_thawed(base: keras.Model, moved: Iterable[keras.Variable]) -> None:
    """Checks that nothing in a base trains except what an adapter trains.

    Args:
        base: The base.
        moved: Its variables that an adapter trains.

    Raises:
        AdapterError: If other variables were made trainable after the base was adapted.
    """
    known = set(map(id, moved))
    if thawed := [v.path for v in base.variables if v.trainable and id(v) not in known]:
        raise AdapterError(
            f"{len(thawed)} variables of the base model were made trainable after it was adapted, such as "
            f"{thawed[0]}. Training would change the base model for good. Set `trainable = False` on the base "
            "model, or train them with FullFineTuning."
        )


def refuse_taken(base: keras.Model, all_sites: Iterable[Site]) -> None:
    """Checks that a base has no other adapter.

    Keras's LoRA is included in the kernels that its layers expose, so neither merging nor detaching would be
    exact.

    Args:
        base: The base.
        all_sites: All its sites.

    Raises:
        SelectionError: If the base already carries an adapter.
        OptionError: If Keras's own LoRA is enabled in it.
    """
    sites = list(all_sites)
    if taken := [site.path for site in sites if intercept.is_attached(site.layer)]:
        raise SelectionError(
            f"The base model already has an adapter, at {listed(taken, most=4)}; detach that one "
            "first, or add another one to its model with add_adapter()."
        )
    if own := [site.path for site in sites if getattr(site.layer, "lora_enabled", False)]:
        raise OptionError(
            f"Keras's own LoRA is enabled in {base.name!r}, at {listed(own, most=2)}. Build the model "
            "again without enable_lora(). To keep the trained LoRA, import the file of "
            "save_lora_weights() with keras_peft.interop.import_keras_lora(), or merge it: call "
            "save_weights() here, and load_weights() in the new model."
        )


def forget_compiled_functions(model: keras.Model) -> None:
    """Drops the traced functions of a model and its submodels, which contain outdated calls."""
    for layer in model._flatten_layers(include_self=True, recursive=True):
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None
            if hasattr(layer, "generate_function"):
                layer.generate_function = None
