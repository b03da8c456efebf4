"""Compacter: matrices as sums of Kronecker products."""

from __future__ import annotations

import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.errors import OptionError
from methods.counting import BLOCKS, DIM, adapted, catch, count, fill, outputs_of


def test_count():
    n, size, rank = 2, 8, 3
    method = keras_peft.methods.Compacter(products=n, size=size, rank=rank)
    assert count(method) == n**3 + 2 * BLOCKS * (2 * rank * (DIM + size) + size + DIM)


def test_bottleneck_written_out():
    method = keras_peft.methods.Compacter(size=4, products=2, activation="relu")
    model = adapted(method, layers="last:1", targets="ffn.down")
    tensors = {key.rsplit("/", 1)[1]: value for key, value in fill(model, scale=0.6).items()}
    (weights,) = model.adapters["default"].site_weights
    inputs = models.inputs_of(model.base)
    after = catch(weights.site.layer, lambda: outputs_of(model, inputs))["outputs"]
    with model.disabled():
        before = catch(weights.site.layer, lambda: outputs_of(model, inputs))["outputs"]

    def matrix(way):
        left, right = tensors[f"{way}_left"], tensors[f"{way}_right"]
        return sum(np.kron(tensors["rule"][i], left[i] @ right[i]) for i in range(2))

    inner = np.maximum(before @ matrix("down") + tensors["down_bias"], 0)
    np.testing.assert_allclose(after, before + inner @ matrix("up") + tensors["up_bias"], atol=1e-5)


def test_sizes_have_to_divide():
    with pytest.raises(OptionError, match="`size` must be divisible by `products`, got 7 and 2"):
        keras_peft.methods.Compacter(size=7, products=2)
    with pytest.raises(OptionError, match="returns 16 values, which is not divisible by `products=3`"):
        adapted(keras_peft.methods.Compacter(size=6, products=3))
