"""A gradient that TensorFlow lacks."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

import keras


@cache
def let_slices_update() -> None:
    """Registers a gradient for `keras.ops.slice_update` on TensorFlow.

    KerasHub's decoders use `slice_update` to write keys and values into a cache. TensorFlow
    has no gradient for the underlying operation. The other backends do, so there this
    function does nothing.
    """
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow

    def gradient(operation: Any, upstream: Any) -> list[Any]:
        _, update, start = operation.inputs
        there = keras.ops.zeros(keras.ops.shape(update), update.dtype)
        return [
            keras.ops.slice_update(upstream, start, there),
            keras.ops.slice(upstream, start, keras.ops.shape(update)),
            None,
        ]

    with suppress(KeyError):  # TensorFlow or another library may already have one.
        tensorflow.RegisterGradient("XlaDynamicUpdateSlice")(gradient)
