"""Pooling: from an encoder's output vectors to one vector per row.

Reimers and Gurevych 2019, "Sentence-BERT", https://arxiv.org/abs/1908.10084, section 3.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_peft.core.pooling import FIRST_TOKEN, MAX, POOLINGS
from keras_peft.errors import OptionError, did_you_mean, listed

_MASK = "padding_mask"


class Pooling(keras.layers.Layer):
    """Reduces the vectors of a row to their mean or their maximum, without those of the padding.

    Args:
        pooling: "mean" or "max".
        name: Name of the layer.

    Example:
        >>> Pooling("mean")(vectors, mask).shape
        (2, 1, 384)
    """

    def __init__(self, pooling: str, *, name: str = "pooling") -> None:
        super().__init__(name=name)
        self.pooling = pooling

    def call(self, vectors: Any, mask: Any) -> Any:
        """Pools vectors.

        Args:
            vectors: Vectors, (batch, length, dim) floats.
            mask: 1 for tokens and 0 for padding, (batch, length) int32.

        Returns:
            The pooled vectors, (batch, 1, dim).
        """
        is_token = ops.expand_dims(ops.cast(mask, "bool"), -1)
        if self.pooling == MAX:
            # A row of padding only, as in a batch that is filled up, must stay finite.
            lowest = ops.min(vectors, axis=1, keepdims=True)
            return ops.max(ops.where(is_token, vectors, lowest), axis=1, keepdims=True)
        weights = ops.cast(is_token, vectors.dtype)
        total = ops.sum(vectors * weights, axis=1, keepdims=True)
        return total / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1)

    def compute_output_shape(self, vectors_shape: Any, mask_shape: Any = None) -> tuple[Any, ...]:
        """Returns the shape (batch, 1, dim)."""
        return (vectors_shape[0], 1, vectors_shape[2])

    def get_config(self) -> dict[str, Any]:
        """Returns the layer's configuration."""
        return {"name": self.name, "pooling": self.pooling}


def pooled(model: keras.Model, pooling: str | None) -> keras.Model:
    """Returns an encoder that returns one pooled vector per row.

    The layers are shared, not copied.

    Args:
        model: A Functional model from {token_ids, padding_mask} to (batch, length, dim).
        pooling: One of `POOLINGS`, or None.

    Returns:
        A model to (batch, 1, dim) for "mean" and "max"; for "first-token" and None the model
        itself, whose first vector is that of the first token.

    Raises:
        OptionError: If the pooling is unknown, or the model has another input or output.
    """
    if pooling is None:
        return model
    if pooling not in POOLINGS:
        raise OptionError(
            f"`pooling={pooling!r}`: expected one of {listed(POOLINGS)}.{did_you_mean(pooling, POOLINGS)}"
        )
    if pooling == FIRST_TOKEN:
        return model
    inputs, output = getattr(model, "input", None), getattr(model, "output", None)
    if not isinstance(inputs, dict) or _MASK not in inputs or len(getattr(output, "shape", ())) != 3:
        raise OptionError(
            f"`pooling={pooling!r}` needs a Functional model with an input {_MASK!r} and an output of "
            f"shape (batch, length, dim); {model.name!r} is another one."
        )
    return keras.Model(inputs, Pooling(pooling)(output, inputs[_MASK]), name=f"{model.name}_pooled")
