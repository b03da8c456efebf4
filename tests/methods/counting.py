"""Parameter counts of a method on the tiny DistilBERT: three blocks, dim 16, inner dim 32."""

from __future__ import annotations

import keras
import numpy as np

import keras_peft
from core import models

DIM, INNER, BLOCKS, WORDS, HEADS = 16, 32, 3, 50, 2


def adapted(method, **options):
    """The method on every block of a tiny DistilBERT, without a head."""
    return keras_peft.adapt(models.distilbert(), method, **options)


def count(method, **options):
    """The number of trainable parameters in the plan."""
    return adapted(method, **options).plan.trainable_parameters


def fill(model, seed=0, scale=0.3):
    """Gives every weight of the adapter a random value; returns the values by key."""
    generator = np.random.default_rng(seed)
    tensors = {
        key: (scale * generator.normal(size=value.shape)).astype("float32")
        for key, value in model.adapter_tensors().items()
    }
    model.assign_adapter_tensors(tensors)
    return tensors


def outputs_of(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


def catch(layer, run):
    """Records the inputs and outputs of a layer itself, and its outputs with everything attached to it."""
    from keras_peft.core import intercept

    seen = {}

    def inside(call, *args, **kwargs):
        seen["inputs"], seen["outputs"] = args[0] if args else kwargs["inputs"], call(*args, **kwargs)
        return seen["outputs"]

    with intercept.attached(layer, inside):
        run()
    return {key: keras.ops.convert_to_numpy(value) for key, value in seen.items()}
