"""What adapters change on a base while they are attached, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import keras

from keras_peft.core import intercept
from keras_peft.core.sites import Site
from keras_peft.errors import OptionError, SelectionError, listed

Attachments = Sequence[tuple[keras.Layer, intercept.Wrapper]]


class BaseInterception:
    """Freezes a base and intercepts the calls of its layers, until `release`.

    It is no Keras object, so what it remembers is not tracked, saved or counted as
    part of a model.

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
        """Puts other functions around the layers' calls and returns those of before.

        Args:
            attachments: Layers and what to put around their calls, the innermost first.
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
        """Puts other functions around the layers' calls for as long as the context lasts."""
        before = self.attach(attachments)
        try:
            yield
        finally:
            self.attach(before)

    def release(self) -> None:
        """Takes everything off and thaws what was not frozen; a second time does nothing."""
        if self.is_released:
            return
        self.attach(())
        for variable in self._base.variables:
            variable.trainable = id(variable) in self._were_trainable
        self.is_released = True


def refuse_unbuilt(base: keras.Model) -> None:
    """Checks that a base's layers have their weights.

    Raises:
        OptionError: If they do not.
    """
    if not base.built:
        raise OptionError(
            f"The base {base.name!r} is not built, so its layers have no weights yet; call it once "
            "on an input, or call its build(), and adapt it then."
        )


def refuse_taken(base: keras.Model, all_sites: Iterable[Site]) -> None:
    """Checks that nothing else adapts a base.

    Keras's LoRA is part of the kernels that it shows, so neither merging nor detaching would be exact.

    Args:
        base: The base.
        all_sites: All its sites.

    Raises:
        SelectionError: If it carries an adapter.
        OptionError: If Keras's own LoRA is enabled in it.
    """
    sites = list(all_sites)
    if taken := [site.path for site in sites if intercept.is_attached(site.layer)]:
        raise SelectionError(
            f"The base carries an adapter already, at {listed(taken, most=4)}; detach that one first, or add "
            "another one to its model with add_adapter()."
        )
    if own := [site.path for site in sites if getattr(site.layer, "lora_enabled", False)]:
        raise OptionError(
            f"Keras's own LoRA is enabled in {base.name!r}, at {listed(own, most=2)}. Build the model again without "
            "enable_lora(); to keep what was learnt, take it over from save_lora_weights() with "
            "keras_peft.interop.import_keras_lora(), or fold it in for good: save_weights() here, and load_weights() "
            "in the new model."
        )


def forget_compiled_functions(model: keras.Model) -> None:
    """Drops what Keras has traced of a model and those in it, with the calls of that time."""
    for layer in model._flatten_layers(include_self=True, recursive=True):
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None
            if hasattr(layer, "generate_function"):
                layer.generate_function = None
