"""The one place that touches `layer.call`.

A built layer's `call` is replaced on the instance by a stack of `wrapper`
functions, the way a middleware wraps an app. With the last one taken off, the
attribute is removed and the layer is what it was.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

Wrapper = Callable[..., Any]
"""`wrapper(call, *args, **kwargs)`: runs `call` and returns what the layer shall return."""

CALLING = threading.RLock()
"""Held while an adapted model's calls run or are traced: some of them change a layer for a moment."""

# A quantised layer dispatches `quantized_call` instead of `call`.
_CALL_NAMES = ("call", "quantized_call")


class _Intercepted:
    """A layer's call with the functions around it, the last attached outermost."""

    def __init__(self, layer: keras.Layer, call_name: str) -> None:
        self.original = getattr(layer, call_name)
        self.was_own = call_name in layer.__dict__  # Someone else set a call on the instance.
        functools.update_wrapper(self, self.original)
        self.wrappers: list[Wrapper] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.original
        for wrapper in self.wrappers:
            call = functools.partial(wrapper, call)
        return call(*args, **kwargs)


def attach(layer: keras.Layer, wrapper: Wrapper) -> None:
    """Puts `wrapper` around every later call of a built layer.

    Args:
        layer: A built layer.
        wrapper: Gets the call below it and the layer's arguments, and returns the
            layer's new output. Do not name an argument of it `mask` or `training`:
            Keras gives these to layers by name.
    """
    for call_name in _CALL_NAMES:
        intercepted = layer.__dict__.get(call_name)
        if not isinstance(intercepted, _Intercepted):
            intercepted = _Intercepted(layer, call_name)
            setattr(layer, call_name, intercepted)
        intercepted.wrappers.append(wrapper)


def detach(layer: keras.Layer, wrapper: Wrapper) -> None:
    """Takes `wrapper` off a layer; without it there, nothing happens."""
    for call_name in _CALL_NAMES:
        intercepted = layer.__dict__.get(call_name)
        if not isinstance(intercepted, _Intercepted):
            continue
        intercepted.wrappers = [kept for kept in intercepted.wrappers if kept != wrapper]
        if not intercepted.wrappers:
            delattr(layer, call_name)
            if intercepted.was_own:
                setattr(layer, call_name, intercepted.original)


@contextmanager
def attached(layer: keras.Layer, wrapper: Wrapper) -> Iterator[None]:
    """Puts `wrapper` around a layer's calls for as long as the context lasts."""
    attach(layer, wrapper)
    try:
        yield
    finally:
        detach(layer, wrapper)


def arguments(layer: keras.Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a call's arguments by the names that the layer's `call` gives them."""
    bound = inspect.signature(type(layer).call).bind(layer, *args, **kwargs)
    named = dict(list(bound.arguments.items())[1:])
    return {**named, **named.pop("kwargs", {})}


def split_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """Parts the tensor that a layer reads from its other positional arguments."""
    return (args[0], args[1:]) if args else (kwargs.pop("inputs"), ())


@contextmanager
def before_activation(layer: keras.Layer) -> Iterator[Callable[[Any], Any]]:
    """Runs a layer without its activation and hands that out to be applied later.

    An update to a layer's weights belongs before the activation. Where several
    methods wrap one layer the outermost applies it, so the order stays right.

    Yields:
        The activation, or the identity for a layer that has none.

    Example:
        >>> with before_activation(layer) as activation:
        ...     outputs = call(inputs)
        >>> outputs = activation(outputs + update)
    """
    activation = getattr(layer, "activation", None)
    if activation is None or activation is keras.activations.linear:
        yield keras.activations.linear
        return
    layer.activation = keras.activations.linear
    try:
        yield activation
    finally:
        layer.activation = activation


def is_attached(layer: keras.Layer) -> bool:
    """Tells whether anything is around a layer's call."""
    return any(isinstance(layer.__dict__.get(call_name), _Intercepted) for call_name in _CALL_NAMES)
