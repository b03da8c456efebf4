"""Houlsby: a bottleneck after attention and one after the feed-forward layers, computed by hand."""

from __future__ import annotations

import numpy as np

import keras_peft
from core import models
from methods.counting import BLOCKS, DIM, adapted, catch, count, fill, outputs_of


def test_count():
    assert count(keras_peft.methods.HoulsbyAdapter(size=5)) == 2 * BLOCKS * (2 * DIM * 5 + 5 + DIM)


def test_bottleneck_written_out():
    method = keras_peft.methods.HoulsbyAdapter(size=5, activation="relu", scaling=2.0)
    model = adapted(method, layers="last:1", targets="ffn.down")
    tensors = {key.rsplit("/", 1)[1]: value for key, value in fill(model).items()}
    (weights,) = model.adapters["default"].site_weights
    inputs = models.inputs_of(model.base)
    after = catch(weights.site.layer, lambda: outputs_of(model, inputs))["outputs"]
    with model.disabled():
        before = catch(weights.site.layer, lambda: outputs_of(model, inputs))["outputs"]
    inner = np.maximum(before @ tensors["down"] + tensors["down_bias"], 0)
    expected = before + 2.0 * (inner @ tensors["up"] + tensors["up_bias"])
    np.testing.assert_allclose(after, expected, atol=1e-5)
