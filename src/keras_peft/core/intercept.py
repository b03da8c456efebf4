"""Interception of `layer.call`; no other module modifies it.

A built layer's `call` is replaced on the instance by a stack of `wrapper` functions, the way
middleware wraps an app. When the last wrapper is removed, the attribute is deleted and the layer is in
its original state.
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
"""`wrapper(call, *args, **kwargs)`: runs `call` and returns the layer's output."""

CALLING = threading.RLock()
"""Held while calls of an adapted model run or are traced, since some temporarily modify a layer."""

# A quantised layer runs `quantized_call` instead of `call`.
_CALL_NAMES = ("call", "quantized_call")


class _Intercepted:
    """A layer's call with its wrappers; the last attached one is outermost."""

    def __init__(self, layer: keras.Layer, call_name: str) -> None:
        self.original = getattr(layer, call_name)
        self.was_own = call_name in layer.__dict__  # The instance already had its own call.
        functools.update_wrapper(self, self.original)
        self.wrappers: list[Wrapper] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.original
        for wrapper in self.wrappers:
            call = functools.partial(wrapper, call)
        return call(*args, **kwargs)


def attach(layer: keras.Layer, wrapper: Wrapper) -> None:
    """Wraps all later calls of a built layer.

    Args:
        layer: A built layer.
        wrapper: Receives the call below it and the layer's arguments, and returns the layer's
            new output. None of its parameters may be named `mask` or `training`, because Keras
            passes these to layers by name.
    """
    for call_name in _CALL_NAMES:
        intercepted = layer.__dict__.get(call_name)
        if not isinstance(intercepted, _Intercepted):
            intercepted = _Intercepted(layer, call_name)
            setattr(layer, call_name, intercepted)
        intercepted.wrappers.append(wrapper)


def detach(layer: keras.Layer, wrapper: Wrapper) -> None:
    """Removes a wrapper from a layer; does nothing if it is not attached."""
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
    """Wraps a layer's calls within the context."""
    attach(layer, wrapper)
    try:
        yield
    finally:
        detach(layer, wrapper)


def arguments(layer: keras.Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a call's arguments by their names in the layer's `call`."""
    bound = inspect.signature(type(layer).call).bind(layer, *args, **kwargs)
    named = dict(list(bound.arguments.items())[1:])
    return {**named, **named.pop("kwargs", {})}


def split_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """Separates the input tensor of a layer from its other positional arguments."""
    return (args[0], args[1:]) if args else (kwargs.pop("inputs"), ())


@contextmanager
def before_activation(layer: keras.Layer) -> Iterator[Callable[[Any], Any]]:
    """Runs a layer without its activation, which the caller applies afterwards.

    An update to a layer's weights must be applied before the activation. If several methods wrap
    one layer, the outermost applies the activation, so the order is correct.

    Yields:
        The activation, or the identity for a layer without one.

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
    """Returns whether a layer has any wrapper."""
    return any(isinstance(layer.__dict__.get(call_name), _Intercepted) for call_name in _CALL_NAMES)
