"""BitFit: trains the existing biases, before the activation."""

from __future__ import annotations

import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.core.sites import find_sites
from keras_peft.errors import SelectionError
from methods.counting import BLOCKS, DIM, INNER, adapted, count, fill, outputs_of


def test_count():
    # Query, value, output and down have DIM, up has INNER; two norms in each block and one before the blocks.
    assert count(keras_peft.BitFit()) == BLOCKS * (4 * DIM + INNER + 2 * DIM) + DIM


def test_it_is_the_base_with_other_biases():
    model = adapted(keras_peft.BitFit())
    inputs = models.inputs_of(model.base)
    tensors = fill(model)
    before = outputs_of(model, inputs)
    base = model.detach()
    variables = {f"{s.path}/{v.name}": v for s in find_sites(base) for v in s.layer.weights}
    for key, delta in tensors.items():
        site = key.removesuffix("/bitfit/bias")
        variable = variables.get(f"{site}/bias", variables.get(f"{site}/beta"))
        variable.assign_add(delta.reshape(variable.shape))
    np.testing.assert_allclose(outputs_of(base, inputs), before, atol=2e-5)


def test_a_base_without_biases_is_refused():
    with pytest.raises(SelectionError, match="bitfit has nothing to train"):
        keras_peft.adapt(models.llama(), keras_peft.BitFit())
