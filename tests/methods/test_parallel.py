"""Parallel: a bottleneck from the inputs of the feed-forward layers to their outputs, computed by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.errors import SelectionError
from methods.counting import BLOCKS, DIM, adapted, catch, count, fill, outputs_of


def test_count():
    assert count(keras_peft.methods.ParallelAdapter(size=5)) == BLOCKS * (2 * DIM * 5 + 5 + DIM)


def test_bottleneck_written_out():
    model = adapted(keras_peft.methods.ParallelAdapter(size=5), layers="last:1")
    tensors = {key.rsplit("/", 1)[1]: value for key, value in fill(model).items()}
    (weights,) = model.adapters["default"].site_weights
    up, norm = weights.site.inner["ffn.up"].layer, weights.site.layer._feedforward_layer_norm
    inputs = models.inputs_of(model.base)
    read = catch(up, lambda: outputs_of(model, inputs))["inputs"]
    after = catch(norm, lambda: outputs_of(model, inputs))["inputs"]
    with model.disabled():
        before = catch(norm, lambda: outputs_of(model, inputs))["inputs"]
    inner = np.maximum(read @ tensors["down"] + tensors["down_bias"], 0)
    np.testing.assert_allclose(after, before + 4 * (inner @ tensors["up"] + tensors["up_bias"]), atol=1e-5)


def test_a_block_of_unknown_parts_is_refused():
    class Block(keras.layers.Layer):
        def build(self, shape):
            self.dense = keras.layers.Dense(4)
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Block(name="block")(inputs))
    with pytest.raises(SelectionError, match=r"no layers with the roles 'ffn.up' and 'ffn.down'.*`roles`"):
        keras_peft.adapt(model, keras_peft.methods.ParallelAdapter(), roles={"block": "block"})
