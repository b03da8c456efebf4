"""DoRA: parameter counts, and the norm of the updated kernel."""

from __future__ import annotations

import keras
import numpy as np

import keras_peft
from keras_peft.core.projection import projection
from methods.counting import BLOCKS, DIM, adapted, count, fill


def test_count():
    assert count(keras_peft.DoRA(rank=3)) == 2 * BLOCKS * (3 * (DIM + DIM) + DIM)


def test_norm_without_the_product():
    model = adapted(keras_peft.DoRA(rank=3))
    fill(model)
    weights = model.adapters["default"].site_weights[0]
    a, b = (keras.ops.convert_to_numpy(weights.values[name]) for name in ("a", "b"))
    changed = keras.ops.convert_to_numpy(projection(weights.site).matrix()) + weights.method.scaling * a @ b
    norm = keras.ops.convert_to_numpy(weights.method._length(projection(weights.site), weights))
    np.testing.assert_allclose(norm, np.linalg.norm(changed, axis=0), rtol=1e-5)
