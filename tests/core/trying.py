"""Helpers for tests of adapted models."""

from __future__ import annotations

import keras
import numpy as np

MODE = False if keras.config.backend() == "tensorflow" else "auto"
"""For `compile(jit_compile=…)`: on TensorFlow, compiling takes longer than it saves."""


def dense(outputs: int = 3) -> keras.Model:
    """A head on the first token."""
    vectors = keras.Input((None, 16))
    return keras.Model(vectors, keras.layers.Dense(outputs, name="logits")(vectors[:, 0]))


def shake(model, seed: int = 0, scale: float = 0.3) -> None:
    """Adds noise to every trained weight, so that each has an effect."""
    generator = np.random.default_rng(seed)
    for variable in model.adapter_variables().values():
        moved = scale * generator.normal(size=variable.shape)
        variable.assign(keras.ops.convert_to_numpy(variable) + moved)


def outputs_of(model, inputs) -> np.ndarray:
    """Returns the outputs of a model in inference."""
    return keras.ops.convert_to_numpy(model(inputs, training=False))
