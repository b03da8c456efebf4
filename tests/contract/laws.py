"""The laws that hold for every method, over the whole shelf by itself.

A new file in `methods/` is tested here without a line being added. What a method
says of itself (`starts_as_identity`, `merges`, `supports_mixed_batch`, `generates`, `quantised`) is held
against it in both directions: what it denies has to be refused.
"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import MODE
from core.trying import shake as move_off
from keras_peft import methods
from sampling import sample, thorough

METHODS = [methods.find(name) for name in methods.names()]
# One that changes projections, one the base's own weights, one what attention sees, one what the base reads,
# one what a block gives, and one that changes during training.
KINDS = [methods.find(name) for name in ("lora", "bitfit", "prefix", "prompt", "houlsby", "adalora")]
BASES = [models.small_distilbert, *thorough(models.gpt2, models.handwritten)]

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
each_kind = pytest.mark.parametrize("method", sample(METHODS, *KINDS), ids=lambda method: method.name)
each_base = pytest.mark.parametrize("make_base", BASES, ids=lambda make: make.__name__)


def make(method: type, **options: object) -> object:
    """A method that is small enough for the tiny bases."""
    small = {"tokens": 4, "rank": 4, "initial_rank": 6, "size": 8, "hidden": 8, "block_size": 8}
    fields = {field.name for field in dataclasses.fields(method)}
    return method(**{key: value for key, value in {**small, **options}.items() if key in fields})


def head(outputs: int = 3) -> keras.Model:
    """Reads all positions: the first token of a decoder sees nothing but itself."""
    vectors = keras.Input((None, 16))
    pooled = keras.layers.GlobalAveragePooling1D()(vectors)
    return keras.Model(vectors, keras.layers.Dense(outputs, name="logits")(pooled), name="head")


def adapt(base, method, *, outputs=3, layers=None, **options):
    layers = layers or layers_of(method)
    roles = models.HANDWRITTEN_ROLES if isinstance(base, models.Handwritten) else {}
    return keras_peft.adapt(base, method, head=head(outputs), layers=layers, roles=roles, **options)


def layers_of(method):
    """All blocks where the method wants them, else the last one of two."""
    return "all" if method.default_layers == "all" else "last:1"


def fit(model, inputs, *, steps=2, eagerly=False):
    """Trains a few steps; `eagerly` saves the tracing, which takes most of the time."""
    keras.utils.set_random_seed(0)
    rows = len(inputs["token_ids"])
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False if eagerly else MODE,
        run_eagerly=eagerly,
    )
    model.fit(inputs, np.arange(rows) % 3, epochs=steps, batch_size=rows, verbose=0)


def shake(model, seed=3):
    """Moves every trained weight a little off its start: the tiny bases amplify larger steps."""
    move_off(model, seed, scale=0.1)


def run(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))
