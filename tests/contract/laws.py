"""Parameters and helpers of the tests that every method must pass.

The tests run on all files in `methods/`, so a new method needs no further code. The class variables
`starts_as_identity`, `merges`, `supports_mixed_batch`, `generates` and `quantised` are checked in both
directions: an operation that a method does not support must be refused.
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
# One method of each kind: it changes projections, trains the base's own weights, adds keys and values to
# attention, adds virtual tokens to the input, changes the outputs of a block, or changes in training.
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
    """Builds a head on all positions, because the first token of a decoder attends only to itself."""
    vectors = keras.Input((None, 16))
    pooled = keras.layers.GlobalAveragePooling1D()(vectors)
    return keras.Model(vectors, keras.layers.Dense(outputs, name="logits")(pooled), name="head")


def adapt(base, method, *, outputs=3, layers=None, **options):
    layers = layers or layers_of(method)
    roles = models.HANDWRITTEN_ROLES if isinstance(base, models.Handwritten) else {}
    return keras_peft.adapt(base, method, head=head(outputs), layers=layers, roles=roles, **options)


def layers_of(method):
    """Returns all blocks if they are the method's default, otherwise the last of two."""
    return "all" if method.default_layers == "all" else "last:1"


def fit(model, inputs, *, steps=2, eagerly=False):
    """Trains a few steps; `eagerly` skips the tracing, which takes most of the time."""
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
    """Adds a little noise to every trained weight; the tiny bases amplify larger changes."""
    move_off(model, seed, scale=0.1)


def run(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))
