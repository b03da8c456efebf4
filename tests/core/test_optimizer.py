"""Learning rates and weight decay of each variable."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_peft.core.optimizer import specialise


@pytest.mark.parametrize("rates", [(1.0, 1.0), (1.0, 0.1), (4.0, 0.0)])
def test_weight_decay_goes_with_the_rate(rates):
    variables = [keras.Variable(np.ones((2, 3), "float32")) for _ in rates]
    optimizer = keras.optimizers.AdamW(0.5, weight_decay=0.2)
    specialise(optimizer, {id(v): rate for v, rate in zip(variables, rates, strict=True)})
    optimizer.apply([keras.ops.zeros((2, 3))] * 2, variables)
    for variable, rate in zip(variables, rates, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), 1 - 0.5 * 0.2 * rate, rtol=1e-6)
    assert optimizer.weight_decay == 0.2


def test_what_is_excluded_does_not_decay():
    variables = [keras.Variable(np.ones(3, "float32")) for _ in range(2)]
    optimizer = keras.optimizers.AdamW(0.5, weight_decay=0.2)
    optimizer.exclude_from_weight_decay(var_list=variables[:1])
    specialise(optimizer, {id(variables[1]): 0.5})
    optimizer.apply([keras.ops.zeros(3)] * 2, variables)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variables[0]), 1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variables[1]), 1 - 0.5 * 0.2 * 0.5, rtol=1e-6)
