"""Pfeiffer at the norm: a bottleneck from the outputs of the norm to its inputs, computed by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.errors import SelectionError
from methods.counting import BLOCKS, DIM, adapted, catch, count, fill, outputs_of


def test_count():
    assert count(keras_peft.methods.PfeifferNormAdapter(size=5)) == BLOCKS * (2 * DIM * 5 + 5 + DIM)


def test_bottleneck_written_out():
    model = adapted(
        keras_peft.methods.PfeifferNormAdapter(size=5, activation="relu", scaling=0.5), layers="last:1"
    )
    tensors = {key.rsplit("/", 1)[1]: value for key, value in fill(model).items()}
    (weights,) = model.adapters["default"].site_weights
    norm = weights.site.layer._feedforward_layer_norm
    inputs = models.inputs_of(model.base)
    with model.disabled():
        before = catch(norm, lambda: outputs_of(model, inputs))
    inner = np.maximum(before["outputs"] @ tensors["down"] + tensors["down_bias"], 0)
    changed = before["inputs"] + 0.5 * (inner @ tensors["up"] + tensors["up_bias"])
    after = catch(weights.site.layer, lambda: outputs_of(model, inputs))["outputs"]
    np.testing.assert_allclose(after, keras.ops.convert_to_numpy(norm(changed)), atol=1e-5)


def test_the_norm_of_a_blocks_end_is_meant():
    model = keras_peft.adapt(models.llama(), keras_peft.methods.PfeifferNormAdapter(size=2))
    assert {key.split("/", 1)[1] for key in model.adapter_tensors() if "/" in key} == {
        f"pfeiffer-norm/{name}" for name in ("down", "down_bias", "up", "up_bias")
    }


def test_a_block_without_norms_is_refused():
    class Block(keras.layers.Layer):
        def build(self, shape):
            self.dense = keras.layers.Dense(4)
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Block(name="block")(inputs))
    with pytest.raises(SelectionError, match=r"no layer with the role 'norm'.*`roles`"):
        keras_peft.adapt(model, keras_peft.methods.PfeifferNormAdapter(), roles={"block": "block"})
