"""Inference of a model: traced once for all lengths, and again when the model changes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import dense, shake
from keras_peft.inputs.tokens import Tokens
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.outputs import compute_outputs


def tokens_of(lengths):
    generator = np.random.default_rng(0)
    return Tokens(tuple(generator.integers(1, 50, length, np.int32) for length in lengths), truncated=0)


@pytest.fixture
def model():
    adapted = keras_peft.adapt(models.distilbert(), keras_peft.LoRA(), layers="last:1", head=dense())
    shake(adapted)
    return adapted


class Counted(keras.Model):
    """Counts how often Python runs its call: once for each trace, or for each batch without tracing."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0
        self.built = True

    def call(self, inputs, training=None):
        self.calls += 1
        return self.inner(inputs, training=training)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="the others trace in their own ways")
def test_many_lengths_are_one_trace(model):
    counted = Counted(model)
    rows = tokens_of(range(3, 20))
    run = Inference(counted, rows.signature)
    for row in range(len(rows)):
        run(rows.batch(np.array([row])))
    assert counted.calls == 1


def test_logits_do_not_depend_on_how_they_are_computed(model):
    few, many = tokens_of([3, 9, 5]), tokens_of([3, 9, 5, *range(3, 13)] * 7)
    inputs = few.batch(np.arange(3))
    expected = keras.ops.convert_to_numpy(model(inputs, training=False))
    np.testing.assert_allclose(compute_outputs(Inference(model, few.signature), few), expected, atol=2e-5)
    of_many = compute_outputs(Inference(model, many.signature), many)
    assert of_many.shape == (91, 3)
    for row in (0, 40, 90):
        alone = keras.ops.convert_to_numpy(model(many.batch(np.array([row])), training=False))
        np.testing.assert_allclose(of_many[row : row + 1], alone, atol=2e-5)


def test_a_changed_model_is_traced_again(model):
    rows = tokens_of(range(3, 20))
    run = Inference(model, rows.signature)
    inputs = rows.batch(np.arange(4))
    before = run(inputs)
    model.merge()
    np.testing.assert_allclose(run(inputs), before, atol=1e-4)  # The adapter is not applied twice.
    model.unmerge()
    with model.disabled():
        base = run(inputs)
    np.testing.assert_allclose(run(inputs), before, atol=1e-5)
    assert base.shape != before.shape
