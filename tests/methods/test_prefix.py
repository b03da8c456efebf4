"""Prefix tuning: learned keys and values, computed by hand, and attention layers that do not support them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.errors import SelectionError
from methods.counting import BLOCKS, DIM, count, outputs_of


def test_count():
    assert count(keras_peft.PrefixTuning(tokens=4)) == BLOCKS * 2 * 4 * DIM
    made = keras_peft.PrefixTuning(tokens=4, projection=True, hidden=7)
    assert count(made) == 4 * DIM + (DIM + 1) * 7 + BLOCKS * 2 * (7 + 1) * DIM


def test_keys_and_values_of_a_text_are_a_text():
    """A prefix with the keys and values of two tokens gives the same outputs as these tokens."""
    keras.utils.set_random_seed(0)
    attention = keras.layers.MultiHeadAttention(2, 8, name="attention")
    inputs = keras.Input((None, 16))
    model = keras.Model(inputs, attention(inputs, inputs))
    text = np.random.default_rng(0).normal(size=(1, 7, 16)).astype("float32")
    expected = outputs_of(model, text)[:, 2:]
    keys, values = (
        keras.ops.convert_to_numpy(layer(text[:, :2])).reshape(2, 16)
        for layer in (attention.key_dense, attention.value_dense)
    )
    tuned = keras_peft.adapt(model, keras_peft.PrefixTuning(tokens=2), targets="attention")
    tuned.assign_adapter_tensors({"attention/prefix/key": keys, "attention/prefix/value": values})
    np.testing.assert_allclose(outputs_of(tuned, text[:, 2:]), expected, atol=1e-5)


def test_masks_that_keras_makes_itself_are_lengthened():
    """Covers a causal mask and the mask of an embedding, with the prefix visible and masked."""
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(9, 16, mask_zero=True)(tokens)
    x = keras.layers.MultiHeadAttention(2, 8, name="attention")(x, x, use_causal_mask=True)
    model = keras.Model(tokens, x)
    tuned = keras_peft.adapt(model, keras_peft.PrefixTuning(tokens=3), targets="attention")
    text = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 0, 0, 0]])
    longer = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 7, 8, 7]])
    first, second = outputs_of(tuned, text), outputs_of(tuned, longer)
    np.testing.assert_allclose(first[0], second[0], atol=1e-6)
    np.testing.assert_allclose(first[1, :3], second[1, :3], atol=1e-6)  # Later tokens are not visible.


@pytest.mark.parametrize("make", [models.deberta_v3, models.gemma3, models.smollm3])
def test_attention_without_a_place_for_them_is_refused(make):
    with pytest.raises(SelectionError, match="cannot take keys and values"):
        keras_peft.adapt(make(), keras_peft.PrefixTuning())
