"""Heads computed without Keras equal the heads that Keras builds."""

import keras
import numpy as np
import pytest

from keras_peft import tasks


@pytest.mark.parametrize("name", tasks.names())
def test_a_head_computed_without_keras_is_the_head(name):
    kind = tasks.find(name)
    task = kind(("a",) if name == "regression" else ("O", "B-x", "I-x"))
    model = task.head(8)
    generator = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(generator.normal(size=variable.shape))
    tensors = {
        f"{layer.name}/{v.name}": keras.ops.convert_to_numpy(v)
        for layer in model.layers
        for v in layer.weights
    }
    tensors = {key: value for key, value in tensors.items() if not key.startswith("dropout/")}
    assert {key: value.shape for key, value in tensors.items()} == task.head_shapes(8)
    vectors = generator.normal(size=(3, 5, 8)).astype(np.float32)
    answer = task.apply_head(vectors, tensors)
    expected = keras.ops.convert_to_numpy(model(vectors, training=False))
    assert answer.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_many_labels_of_a_row_each_start_a_head():
    task = tasks.find("single-label")(tuple(map(str, range(30))))
    vectors = np.random.default_rng(0).normal(size=(40, 8))
    kernel, bias = task.linear_solution(vectors, np.arange(40) % 30)
    assert kernel.shape == (8, 30)
    assert bias.shape == (30,)
