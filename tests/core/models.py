"""Small models of the kinds that people have."""

from __future__ import annotations

import keras
import keras_hub
import numpy as np


def distilbert(*, layers: int = 3, dropout: float = 0.0) -> keras.Model:
    """KerasHub's DistilBERT, random."""
    return keras_hub.models.DistilBertBackbone(
        vocabulary_size=50,
        num_layers=layers,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=24,
        dropout=dropout,
    )


def distilbert_classifier() -> keras.Model:
    """KerasHub's whole DistilBERT classifier, random."""
    return keras_hub.models.DistilBertTextClassifier(distilbert(), num_classes=3)


def functional() -> keras.Model:
    """A hand-written Functional encoder with repeated parts, a batch norm and a dropout."""
    inputs = keras.Input((8, 16))
    x = inputs
    for number in range(3):
        attended = keras.layers.MultiHeadAttention(2, 8, name=f"attention_{number}")(x, x)
        x = keras.layers.LayerNormalization(name=f"norm_{number}")(x + attended)
        x = x + keras.layers.Dense(16, activation="gelu", name=f"dense_{number}")(x)
    x = keras.layers.BatchNormalization(name="batch_norm")(x)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    x = keras.layers.Dropout(0.1, name="drop")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(x))


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A hand-written subclassed model."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(12, activation="relu", name="first")
        self.second = keras.layers.Dense(3, name="second")

    def call(self, inputs):
        return self.second(self.first(inputs))


def subclassed() -> keras.Model:
    """The subclassed model, built."""
    model = Subclassed()
    model(np.zeros((1, 8), "float32"))
    return model


def inputs_of(model: keras.Model, rows: int = 4) -> object:
    """Random inputs for one of these models."""
    generator = np.random.default_rng(0)
    if isinstance(model, Subclassed):
        return generator.normal(size=(rows, 8)).astype("float32")
    if isinstance(model.input, dict):
        mask = np.ones((rows, 10), "int32")
        mask[1, 6:] = 0
        return {"token_ids": generator.integers(0, 50, (rows, 10)).astype("int32"), "padding_mask": mask}
    return generator.normal(size=(rows, 8, 16)).astype("float32")


def values(model: keras.Model) -> list[np.ndarray]:
    """Copies of a model's weights."""
    return [keras.ops.convert_to_numpy(variable) for variable in model.weights]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Tells whether two lists of arrays are equal, bit for bit."""
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
