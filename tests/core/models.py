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


def gpt2(*, layers: int = 3) -> keras.Model:
    return keras_hub.models.GPT2Backbone(
        vocabulary_size=50, num_layers=layers, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=24, dropout=0.0,
    )


def gpt2_lm() -> keras.Model:
    return keras_hub.models.GPT2CausalLM(gpt2())


def llama_lm() -> keras.Model:
    return keras_hub.models.LlamaCausalLM(keras_hub.models.LlamaBackbone(vocabulary_size=50, num_layers=2, num_query_heads=4, num_key_value_heads=2, hidden_dim=16, intermediate_dim=32))


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


class Block(keras.layers.Layer):
    """A block of a hand-written encoder: attention, then two dense layers."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.attention = keras.layers.MultiHeadAttention(2, 8, name="attention")
        self.first_norm = keras.layers.LayerNormalization(name="first_norm")
        self.up = keras.layers.Dense(32, activation="relu", name="up")
        self.down = keras.layers.Dense(16, name="down")
        self.second_norm = keras.layers.RMSNormalization(name="second_norm")

    def call(self, x, padding_mask):
        x = self.first_norm(x + self.attention(x, x, attention_mask=padding_mask[:, None, :]))
        return self.second_norm(x + self.down(self.up(x)))


class Handwritten(keras.Model):
    """A hand-written subclassed encoder, with a batch norm and dropout."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.words = keras.layers.Embedding(50, 16, name="words")
        self.drop = keras.layers.Dropout(0.1, name="drop")
        self.blocks = [Block(name=f"block_{number}") for number in range(3)]
        self.average = keras.layers.BatchNormalization(name="average")

    def call(self, inputs):
        x = self.drop(self.words(inputs["token_ids"]))
        for block in self.blocks:
            x = block(x, padding_mask=inputs["padding_mask"])
        return self.average(x)


HANDWRITTEN_ROLES = {
    r"words": "embedding.token",
    r"block_\d+": "block",
    r"block_\d+/up": "ffn.up",
    r"block_\d+/down": "ffn.down",
}


def handwritten() -> keras.Model:
    """The hand-written encoder, built."""
    model = Handwritten()
    model(inputs_of(model))
    return model


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
    if isinstance(model, Handwritten) or isinstance(model.input, dict):
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
