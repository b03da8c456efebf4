"""The laws that hold for every method, over the whole shelf by itself.

A new file in `methods/` is tested here without a line being added. What a method
says of itself (`silent`, `merges`, `mixes`, `generates`, `quantised`) is held
against it in both directions: what it denies has to be refused.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft import methods
from keras_peft.core import intercept
from keras_peft.core.sites import find_sites
from keras_peft.core.weights import read_tensors, write_tensors
from keras_peft.errors import AdapterError, KerasPeftError, OptionError, SelectionError

METHODS = [methods.find(name) for name in methods.names()]
BASES = [models.small_distilbert, models.gpt2, models.handwritten]
MODE = False if keras.config.backend() == "tensorflow" else "auto"

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
each_base = pytest.mark.parametrize("make_base", BASES, ids=lambda make: make.__name__)


def make(method: type, **options: object) -> object:
    """A method that is small enough for the tiny bases."""
    small = {"tokens": 4, "rank": 4, "initial_rank": 6, "size": 8, "hidden": 8, "block_size": 8}
    fields = {field.name for field in dataclasses.fields(method)}
    return method(**{key: value for key, value in {**small, **options}.items() if key in fields})


def head(outputs: int = 3) -> keras.Model:
    """Reads all positions: the first token of a decoder sees nothing but itself."""
    vectors = keras.Input((None, 16))
    pooled = keras.layers.GlobalAveragePooling1D()(vectors)
    return keras.Model(vectors, keras.layers.Dense(outputs, name="logits")(pooled), name="head")


def adapt(base, method, *, outputs=3, layers="last:2", **options):
    layers = "all" if layers != "last:1" and method.default_layers == "all" else layers
    roles = models.HANDWRITTEN_ROLES if isinstance(base, models.Handwritten) else {}
    return keras_peft.adapt(base, method, head=head(outputs), layers=layers, roles=roles, **options)


def fit(model, inputs, *, steps=2):
    keras.utils.set_random_seed(0)
    rows = len(inputs["token_ids"])
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=MODE,
    )
    model.fit(inputs, np.arange(rows) % 3, epochs=steps, batch_size=rows, verbose=0)


def shake(model, seed=3):
    """Moves every trained weight off its start, so that each has an effect."""
    generator = np.random.default_rng(seed)
    for variable in model.adapter_variables().values():
        variable.assign(keras.ops.convert_to_numpy(variable) + 0.1 * generator.normal(size=variable.shape))


def run(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


@each_method
@each_base
def test_training_moves_the_adapter_and_nothing_else(method, make_base):
    """Silent at birth or says not; the base stays; all that can train does; detaching restores."""
    base = make_base()
    inputs = models.inputs_of(base, rows=6)
    before, outputs = models.values(base), run(base, inputs)
    trainable = [variable.path for variable in base.trainable_variables]
    calls = [dict(site.layer.__dict__) for site in find_sites(base)]
    model = adapt(base, make(method))
    # DoRA divides by the norms that it starts with, which rounds.
    difference = np.abs(run(base, inputs) - outputs).max()
    assert (difference < 1e-5) == method.silent, f"a new adapter changes the outputs by {difference}"
    frozen = [v for v in base.weights if not v.trainable]
    frozen_before = [keras.ops.convert_to_numpy(variable) for variable in frozen]
    shake(model)  # From zero, half of a product has no gradient in the first step.
    start = model.adapter_tensors()
    training = model.adapter_variables()
    assert {id(v) for v in training.values()} == {id(v) for v in model.trainable_variables}
    fit(model, inputs)
    now = model.adapter_tensors()
    unmoved = {key for key in start if np.array_equal(now[key], start[key])}
    assert unmoved == set(start) - set(training)
    assert models.same([keras.ops.convert_to_numpy(variable) for variable in frozen], frozen_before)
    assert keras_peft.detach(model) is base
    assert models.same(models.values(base), before)
    np.testing.assert_array_equal(run(base, inputs), outputs)
    assert [variable.path for variable in base.trainable_variables] == trainable
    after = [site.layer.__dict__ for site in find_sites(base)]
    assert all(set(now) == set(then) for now, then in zip(after, calls, strict=True))


@each_method
@each_base
def test_saved_and_loaded_gives_the_same_outputs(method, make_base, tmp_path):
    first, twin = make_base(), make_base()
    twin.set_weights(first.get_weights())
    model = adapt(first, make(method))
    shake(model)
    write_tensors(tmp_path / "adapter.safetensors", model.adapter_tensors())
    loaded = adapt(twin, methods.from_config(json.loads(json.dumps(make(method).to_config()))))
    loaded.assign_adapter_tensors(read_tensors(tmp_path / "adapter.safetensors"))
    inputs = models.inputs_of(first)
    np.testing.assert_array_equal(run(loaded, inputs), run(model, inputs))


@each_method
def test_training_goes_on_after_loading(method, tmp_path):
    base = models.small_distilbert()
    model = adapt(base, make(method))
    shake(model)
    model.save_weights(tmp_path / "all.weights.h5")
    trained = model.adapter_tensors()
    shake(model)
    model.load_weights(tmp_path / "all.weights.h5")
    restored = model.adapter_tensors()
    assert all(np.array_equal(restored[key], value) for key, value in trained.items())
    fit(model, models.inputs_of(base, rows=6), steps=1)
    now = model.adapter_tensors()
    assert all(not np.array_equal(now[key], trained[key]) for key in model.adapter_variables())


@each_method
@each_base
def test_merging_changes_nothing(method, make_base):
    base = make_base()
    roles = models.HANDWRITTEN_ROLES if make_base is models.handwritten else {}
    if not method.default_targets:
        model = adapt(base, make(method))
    else:
        model = keras_peft.adapt(base, make(method), roles=roles)
    shake(model)
    inputs, original = models.inputs_of(base), models.values(base)
    before = run(model, inputs)
    if not method.merges:
        with pytest.raises(AdapterError, match="cannot be merged"):
            model.merge()
        with pytest.raises(AdapterError, match="cannot be merged"):
            model.merge_and_detach()
        assert models.same(models.values(base), original)
        return
    model.merge()
    np.testing.assert_allclose(run(model, inputs), before, atol=3e-5)
    model.unmerge()
    assert models.same(models.values(base), original)
    np.testing.assert_array_equal(run(model, inputs), before)
    if model.head is not None and make_base is models.handwritten:
        return
    merged = model.merge_and_detach()
    np.testing.assert_allclose(run(merged, inputs), before, atol=3e-5)
    assert not any(intercept.is_attached(site.layer) for site in find_sites(merged))
    with pytest.raises(AdapterError, match="was detached"):
        model.merge()


@each_method
@each_base
def test_a_mixed_batch_equals_each_row_alone(method, make_base):
    """Rows of two adapters of a method, of another method and of other labels, in one pass."""
    base = make_base()
    model = adapt(base, make(method), adapter="first")
    layers = "all" if method.default_layers == "all" else "last:1"
    model.add_adapter("second", make(method), layers=layers, head=head(3))
    model.add_adapter("other", keras_peft.LoRA(rank=2), layers="last:1", head=head(5))
    for seed, name in enumerate(model.adapters):
        model.activate(name)
        shake(model, seed)
    inputs = models.inputs_of(base, rows=5)
    names = ["first", "other", "second", "first", "other"]
    if not method.mixes:
        with pytest.raises(AdapterError, match="cannot share a batch"):
            model.predict(inputs, adapters=names)
        return
    mixed = model.predict(inputs, adapters=names, verbose=0)
    for name in model.adapters:
        model.activate(name)
        alone = run(model, inputs)
        for row in (row for row, other in enumerate(names) if other == name):
            np.testing.assert_allclose(mixed[row], alone[row], atol=2e-5)


@each_method
def test_switched_off_the_base_is_the_base(method):
    base = models.small_distilbert()
    inputs = models.inputs_of(base)
    outputs = run(base, inputs)
    model = adapt(base, make(method))
    shake(model)
    before = run(model, inputs)
    with model.disabled():
        np.testing.assert_array_equal(run(model, inputs), outputs)
    np.testing.assert_array_equal(run(model, inputs), before)


@each_method
@each_base
def test_what_lies_below_the_first_site_is_the_base(method, make_base):
    """The plan's trunk gives what it gave without the adapter, and trains nothing."""
    base = make_base()
    model = adapt(base, make(method), layers="all" if method.every_block else "last:1")
    below = model.plan.trunk_blocks
    blocks = {site.block: site.layer for site in model._everywhere if site.role == "block"}
    assert model.plan.blocks == len(blocks) == 2
    shake(model)
    inside = {id(v) for number in range(below) for v in blocks[number].variables}
    assert not any(id(variable) in inside for variable in model.trainable_variables)
    seen = []

    def watch(call, *args, **kwargs):
        seen.append(keras.ops.convert_to_numpy(call(*args, **kwargs)))
        return keras.ops.convert_to_tensor(seen[-1])

    if below:
        inputs = models.inputs_of(base)
        with intercept.attached(blocks[below - 1], watch):
            run(model, inputs)
            with model.disabled():
                run(model, inputs)
        np.testing.assert_array_equal(seen[0], seen[1])


@each_method
@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_quantised_bases(method, mode):
    base = quantised(mode)
    inputs = models.inputs_of(base, rows=6)
    outputs = run(base, inputs)
    if not method.quantised:
        with pytest.raises(KerasPeftError):
            adapt(base, make(method))
        return
    model = adapt(base, make(method))
    if method.silent:
        np.testing.assert_allclose(run(base, inputs), outputs, atol=1e-5)
    shake(model)
    assert np.abs(run(base, inputs) - outputs).max() > 1e-4 or not model.adapters["default"].held
    if mode == "int8":
        fit(model, inputs, steps=1)
    if any(getattr(held.site.layer, "quantization_mode", None) for held in model.adapters["default"].held):
        with pytest.raises(AdapterError, match="is quantised|cannot be merged"):
            model.merge()
    model.detach()


@cache
def quantised(mode: str) -> keras.Model:
    """Quantising takes seconds, and a base that is detached is as it was."""
    base = models.small_distilbert()
    base.quantize(mode)
    return base


@each_method
@pytest.mark.parametrize("make_base", [models.gpt2_lm, models.llama_lm], ids=lambda make: make.__name__)
def test_generation(method, make_base):
    """Cached decoding gives what the whole text gives, step by step, or is refused."""
    base = make_base()
    base.compile(sampler="greedy", jit_compile=MODE)
    prompt = {"token_ids": np.zeros((2, 8), "int32"), "padding_mask": np.zeros((2, 8), "int32")}
    prompt["token_ids"][:, :3] = [[1, 2, 3], [4, 5, 6]]
    prompt["padding_mask"][:, :3] = 1
    try:
        model = keras_peft.adapt(base, make(method))
    except SelectionError as error:  # Llama has no bias, and the probe no head.
        assert "trains" in str(error)
        return
    if not method.generates:
        with pytest.raises(AdapterError, match="cache"):
            model.generate(prompt, stop_token_ids=None)
        with pytest.raises(AdapterError, match="cache"):
            base.generate(prompt, stop_token_ids=None)
        return
    shake(model)
    expected = {key: value.copy() for key, value in prompt.items()}
    for position in range(3, 8):
        logits = run(model, expected)
        expected["token_ids"][:, position] = logits[:, position - 1].argmax(axis=-1)
        expected["padding_mask"][:, position] = 1
    generated = model.generate(prompt, stop_token_ids=None)
    np.testing.assert_array_equal(generated["token_ids"], expected["token_ids"])


@each_method
def test_config_round_trips_through_json(method):
    one = make(method)
    again = methods.from_config(json.loads(json.dumps(one.to_config())))
    assert again == one
    assert type(again) is method
    assert hash(again) == hash(one)


@each_method
def test_bad_values_are_refused(method):
    for field in dataclasses.fields(method):
        with pytest.raises(OptionError, match=field.name):
            method(**{field.name: object()})
        limits = [field.metadata[limit] for limit in ("above", "minimum", "below")]
        if field.type in ("int", "float") and limits != [None] * 3:
            with pytest.raises(OptionError, match=field.name):
                method(**{field.name: type(field.default)(-1)})
    with pytest.raises(OptionError, match="no option 'colour'"):
        method.from_options({"colour": 1})


@each_method
def test_no_matching_site_lists_what_there_is(method):
    base = models.small_distilbert()
    before = models.values(base)
    with pytest.raises(SelectionError) as raised:
        keras_peft.adapt(base, method(), targets="attention.qeury", head=head())
    if method.default_targets:
        assert "This base has: attention, attention.query" in str(raised.value)
        assert "Did you mean 'attention.query'?" in str(raised.value)
    adapt(base, make(method)).detach()  # A refused try leaves no trace.
    assert models.same(models.values(base), before)


@each_method
def test_mixed_precision_keeps_the_adapter_in_float32(method):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        base = models.small_distilbert()
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = run(base, models.inputs_of(base))
    model = adapt(base, make(method))
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert run(base, models.inputs_of(base)).dtype == outputs.dtype
    fit(model, models.inputs_of(base, rows=6), steps=1)


@each_method
def test_class_says_what_the_docs_need(method):
    assert methods.find(method.name) is method
    assert "http" in method.paper
    assert method.learning_rate > 0
    assert method.title
    assert all(field.metadata["help"] for field in dataclasses.fields(method))
    for part in ("Parameters:", "Example:"):
        assert part in (method.__doc__ or "")
