"""Run the part of a base below the adapters: from inputs to the features that the top reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np

from keras_peft.core.intercept import CALLING
from keras_peft.core.model_split import Feature, ModelSplit
from keras_peft.runtime.inference import Inference


class TrunkRunner:
    """Runs the trunk of a base in inference mode.

    Args:
        base: The base.
        split: Its two parts.
        signature: The structure of a batch of the base's inputs, with None for variable axes.
        dtype: Dtype that floating-point features are cast to. Defaults to the base's.
        attached: Returns a context in which the base's layers are called. By default they are
            called without wrappers.

    Example:
        >>> trunk = TrunkRunner(base, split, tokens.signature, dtype="float16")
        >>> features = trunk(tokens.batch(rows))
    """

    def __init__(
        self,
        base: keras.Model,
        split: ModelSplit,
        signature: Any,
        *,
        dtype: str | None = None,
        attached: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._run = Inference(_TrunkModel(base, split, dtype, attached), signature)

    def __call__(self, inputs: Any) -> list[np.ndarray]:
        """Computes the features of a batch, except those that are inputs of the base."""
        return list(self._run(inputs))


def computed_features(split: ModelSplit) -> list[Feature]:
    """Returns the features that the trunk computes; the others are inputs of the base."""
    return [feature for feature in split.features if feature.raw is None]


def top_inputs(split: ModelSplit, computed: Iterable[Any], inputs: Any) -> list[Any]:
    """Returns all features of a batch that the top reads.

    Args:
        split: The two parts of the base.
        computed: The features that the trunk computes.
        inputs: The base's inputs.
    """
    raw, rest = keras.tree.flatten(inputs), iter(computed)
    return [next(rest) if feature.raw is None else raw[feature.raw] for feature in split.features]


class _TrunkModel(keras.Model):
    def __init__(
        self,
        base: keras.Model,
        split: ModelSplit,
        dtype: str | None,
        attached: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        super().__init__(name="trunk")
        self.base = base  # tracks the base's weights
        self._split, self._rounded_to, self._attached = split, dtype, attached
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> list[Any]:
        with CALLING, self._attached():
            features = self._split.trunk(inputs)
        return [
            keras.ops.cast(value, self._rounded_to)
            if self._rounded_to is not None and keras.backend.is_float_dtype(feature.dtype)
            else value
            for value, feature in zip(features, self._split.features, strict=True)
            if feature.raw is None
        ]
