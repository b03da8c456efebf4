"""Pooling: the mean and the maximum of the tokens' vectors, without the padding."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_peft
from core import models
from core.trying import outputs_of, shake
from keras_peft import methods
from keras_peft.core.pooling_layer import Pooling
from keras_peft.errors import OptionError
from sampling import sample


def pooled_by_hand(vectors, mask, pooling):
    kept = [own[held == 1] for own, held in zip(vectors, mask, strict=True)]
    return np.stack([own.mean(0) if pooling == "mean" else own.max(0) for own in kept])[:, None]


def adapt(method, pooling):
    keras.utils.set_random_seed(1)
    base = models.small_distilbert()
    inputs = models.inputs_of(base)
    inputs["padding_mask"] = np.array(inputs["padding_mask"])
    inputs["padding_mask"][1, 4:] = 0
    model = keras_peft.adapt(base, method, pooling=pooling)
    shake(model)
    return model, inputs


@given(st.integers(0, 9), st.sampled_from(["mean", "max"]))
@settings(max_examples=20)
def test_the_layer_pools_the_tokens(seed, pooling):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(3, 5, 4)).astype(np.float32)
    mask = np.arange(5) < generator.integers(1, 6, (3, 1))
    found = keras.ops.convert_to_numpy(Pooling(pooling)(vectors, mask.astype(np.int32)))
    np.testing.assert_allclose(found, pooled_by_hand(vectors, mask, pooling), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_row_of_padding_stays_finite(pooling):
    found = Pooling(pooling)(np.ones((1, 3, 2), np.float32), np.zeros((1, 3), np.int32))
    assert np.isfinite(keras.ops.convert_to_numpy(found)).all()


# A linear probe trains nothing but a head, which this base has none of.
@pytest.mark.parametrize(
    "name", sample([name for name in methods.names() if name != "linear-probe"], "lora", "prefix", "prompt")
)
def test_whatever_the_method(name):
    kind = methods.find(name)
    method = kind(**({"tokens": 4} if "tokens" in kind.__dataclass_fields__ else {}))
    model, inputs = adapt(method, None)
    expected = pooled_by_hand(outputs_of(model, inputs), inputs["padding_mask"], "mean")
    pooled, _ = adapt(method, "mean")
    np.testing.assert_allclose(outputs_of(pooled, inputs), expected, atol=1e-5)
    assert pooled.compute_output_shape({name: x.shape for name, x in inputs.items()}) == (4, 1, 16)


def test_a_split_model_pools_too():
    model, inputs = adapt(keras_peft.LoRA(rank=2), "max")
    expected = outputs_of(model, inputs)
    model.detach()
    model, _ = adapt(keras_peft.LoRA(rank=2), "max")
    split = model.split()
    assert split is None or split.top(split.trunk(inputs)).shape == expected.shape


def test_what_cannot_be_pooled_is_refused():
    with pytest.raises(OptionError, match="expected one of first-token, mean, max. Did you mean 'mean'"):
        keras_peft.adapt(models.small_distilbert(), keras_peft.LoRA(), pooling="meen")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    with pytest.raises(OptionError, match="needs a Functional model with an input 'padding_mask'"):
        keras_peft.adapt(model, keras_peft.LoRA(), targets=".", pooling="mean")


def test_the_vectors_that_a_head_reads():
    head = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    model = keras_peft.adapt(models.small_distilbert(), keras_peft.LoRA(rank=2), head=head, pooling="mean")
    inputs = models.inputs_of(model.base)
    assert outputs_of(model, inputs).shape == (4, 2)
    with model.without_head():
        vectors = outputs_of(model, inputs)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(head(vectors[:, None])), outputs_of(model, inputs), atol=1e-6
    )
