"""A model that is split into trunk and top computes the same as the whole model."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import MODE, dense, outputs_of, shake
from keras_peft import methods
from keras_peft.core.model_split import split_model
from sampling import sample

BASES = [
    models.distilbert,
    models.distilbert_classifier,
    models.bert,
    models.roberta,
    models.albert,
    models.deberta_v3,
    models.electra,
    models.gpt2,
    models.llama,
    models.gemma,
    models.qwen3,
    models.vit,
    models.functional,
]


def assert_same(split, model, inputs):
    outputs, expected = split.top(split.trunk(inputs)), model(inputs, training=False)
    keras.tree.assert_same_structure(outputs, expected)
    for ours, theirs in zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (ours, theirs)), atol=1e-6)


@pytest.mark.parametrize(
    "make_base",
    sample(BASES, models.distilbert_classifier, models.gpt2, models.functional),
    ids=lambda make: make.__name__,
)
def test_both_parts_together_are_the_model(make_base):
    base = make_base()
    targets = "^dense" if make_base is models.functional else None
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), layers="last:1", targets=targets)
    shake(model)
    inputs = models.inputs_of(getattr(base, "backbone", base))
    split = model.split()
    if make_base is models.albert:  # Its blocks share weights, so the adapter changes the first block too.
        assert [len(feature.shape) for feature in split.features if feature.raw is None] == [3]
    assert_same(split, model, inputs)
    touched = {weights.site.layer for weights in model.adapters["default"].site_weights}
    assert not touched.intersection(split.below)


@pytest.mark.parametrize("name", sample(methods.names(), "lora", "bitfit", "prefix", "prompt", "houlsby"))
def test_whatever_the_method_does(name):
    method = methods.find(name)()
    model = keras_peft.adapt(models.distilbert(), method, head=dense(), layers=method.default_layers)
    shake(model)
    inputs = models.inputs_of(model.base)
    split = model.split()
    if split is None:
        assert method.default_layers == "all"
        return
    with model.above(split):
        above = outputs_of(model, split.trunk(inputs))
    np.testing.assert_allclose(above, outputs_of(model, inputs), atol=1e-6)


@pytest.mark.slow
def test_training_above_the_trunk_is_the_same_training():
    trained = []
    for is_parted in (False, True):
        keras.utils.set_random_seed(0)
        model = keras_peft.adapt(
            models.distilbert(), keras_peft.LoRA(rank=2, dropout=0.0), layers="last:2", head=dense()
        )
        inputs = models.inputs_of(model.base)
        targets = np.arange(4) % 3
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if is_parted:
            split = model.split()
            features = split.trunk(inputs)
            with model.above(split):
                model.compile(keras.optimizers.Adam(0.05), loss, jit_compile=MODE)
                model.fit(features, targets, epochs=3, verbose=0, shuffle=False)
        else:
            model.compile(keras.optimizers.Adam(0.05), loss, jit_compile=MODE)
            model.fit(inputs, targets, epochs=3, verbose=0, shuffle=False)
        trained.append((model.adapter_tensors(), model.predict(inputs, verbose=0)))
    for key, value in trained[0][0].items():
        np.testing.assert_allclose(trained[1][0][key], value, atol=1e-4, err_msg=key)
    np.testing.assert_allclose(trained[1][1], trained[0][1], atol=1e-4)


def test_a_linear_probe_is_all_trunk():
    model = keras_peft.adapt(models.distilbert(), keras_peft.LinearProbe(), head=dense())
    (feature,) = model.split().features
    assert feature.shape == (None, None, 16)
    assert feature.raw is None


def test_the_inputs_that_the_top_reads_are_listed():
    model = keras_peft.adapt(models.distilbert_classifier(), keras_peft.LoRA(), layers="last:1")
    names = sorted(model.base.input)
    assert [feature.raw for feature in model.split().features] == [None, names.index("padding_mask")]


def test_several_inputs_outputs_and_a_nested_model_called_twice():
    def nested():
        inputs = keras.Input((8,))
        hidden = keras.layers.Dense(8, "tanh", name="low")(inputs)
        return keras.Model(inputs, keras.layers.Dense(8, name="high")(hidden), name="nested")

    inner = nested()
    first, second = keras.Input((8,), name="first"), keras.Input((8,), name="second")
    one = inner(keras.layers.Dense(8, name="own")(first))
    two = inner(one + second)
    base = keras.Model([first, second], {"sum": one + two, "two": two, "plain": second * 2.0})
    inputs = [np.random.default_rng(n).normal(size=(3, 8)).astype("float32") for n in range(2)]
    expected = base(inputs)
    for touched, computed in [(inner.get_layer("high"), 2), (inner, 2), (base.get_layer("own"), 1)]:
        split = split_model(base, [touched])
        assert len([feature for feature in split.features if feature.raw is None]) == computed
        outputs = split.top(split.trunk(inputs))
        assert sorted(outputs) == sorted(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (outputs[key], value)))


def test_a_sequential_model_has_a_graph_too():
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    inputs = np.ones((2, 4), "float32")
    split = split_model(base, [base.layers[1]])
    assert [feature.shape for feature in split.features] == [(None, 5)]
    assert_same(split, base, inputs)


def test_where_there_is_nothing_to_gain():
    first = models.functional()
    assert split_model(first, first.layers[1:2]) is None
    subclassed = models.subclassed()
    assert split_model(subclassed, [subclassed.second]) is None
    inputs = keras.Input((None,), dtype="int32")
    vectors = keras.layers.Embedding(10, 4, mask_zero=True)(inputs)
    masked = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.LSTM(3)(vectors)))
    assert split_model(masked, masked.layers[-1:]) is None
