"""How many weights a method trains on the tiny DistilBERT: three blocks, 16 wide, 32 inside."""

from __future__ import annotations

import keras
import numpy as np

import keras_peft
from core import models

DIM, INNER, BLOCKS, WORDS, HEADS = 16, 32, 3, 50, 2


def adapted(method, **options):
    """The method on every block of a tiny DistilBERT, without a head of its own."""
    return keras_peft.adapt(models.distilbert(), method, **options)


def count(method, **options):
    """What the plan says that trains."""
    return adapted(method, **options).plan.trainable_parameters


def fill(model, seed=0, scale=0.3):
    """Gives every weight of the adapter a random value; returns them by key."""
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
    """What a layer gives, without what is around it, and with it."""
    from keras_peft.core import intercept

    seen = {}

    def inside(call, *args, **kwargs):
        seen["inputs"], seen["outputs"] = args[0] if args else kwargs["inputs"], call(*args, **kwargs)
        return seen["outputs"]

    with intercept.attached(layer, inside):
        run()
    return {key: keras.ops.convert_to_numpy(value) for key, value in seen.items()}
