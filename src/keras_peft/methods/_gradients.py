"""A gradient that TensorFlow lacks."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

import keras


@cache
def let_slices_update() -> None:
    """Lets gradients through `keras.ops.slice_update`, as the other backends do.

    KerasHub's decoders write keys and values into a cache by it. On TensorFlow it is an
    operation without a registered gradient; elsewhere nothing is done.
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

    with suppress(KeyError):  # Where this version, or another library, has registered one.
        tensorflow.RegisterGradient("XlaDynamicUpdateSlice")(gradient)
