"""The laws that hold for every method, over the whole shelf by itself.

A new file in `methods/` is tested here without a line being added.
"""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft import bases, methods
from keras_peft.core import intercept
from keras_peft.core.projection import projection
from keras_peft.core.sites import find_sites
from keras_peft.core.weights import adapter_tensors, assign_adapter_tensors, read_tensors, write_tensors
from keras_peft.errors import AdapterError, OptionError, SelectionError

METHODS = [methods.find(name) for name in methods.names()]
BASES = [models.distilbert, models.functional]

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
each_base = pytest.mark.parametrize("make_base", BASES, ids=lambda make: make.__name__)


def head(outputs: int = 3) -> keras.Model:
    vectors = keras.Input((None, 16))
    return keras.Model(vectors, keras.layers.Dense(outputs, name="logits")(vectors[:, 0]), name="head")


def adapt(base, method, **options):
    with_head = {"head": head()} if len(base.output_shape) == 3 else {}
    return keras_peft.adapt(base, method, **with_head, **options)


def fit(model, inputs, *, steps=2):
    keras.utils.set_random_seed(0)
    rows = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    model.fit(inputs, np.arange(rows) % 3, epochs=steps, batch_size=rows, verbose=0)


def shake(model):
    """Moves every trained weight off its start, so that each has an effect."""
    generator = np.random.default_rng(3)
    for variable in model.adapter_variables().values():
        variable.assign(keras.ops.convert_to_numpy(variable) + 0.1 * generator.normal(size=variable.shape))


def run(model, inputs):
    """Outputs, computed directly and through the functions that Keras traces and keeps."""
    outputs = keras.ops.convert_to_numpy(model(inputs, training=False))
    kept = np.asarray(model.predict_on_batch(inputs), "float32")
    np.testing.assert_allclose(
        kept, outputs.astype("float32"), atol=1e-5 if outputs.dtype == "float32" else 0.1
    )
    return outputs


@each_method
@each_base
def test_silent_at_birth(method, make_base):
    base = make_base()
    inputs = models.inputs_of(base)
    before = run(base, inputs)
    keras_peft.adapt(base, method(), layers="last:2")
    np.testing.assert_array_equal(run(base, inputs), before)


@each_method
@each_base
def test_base_never_moves(method, make_base):
    base = make_base()
    inputs = models.inputs_of(base, rows=6)
    before = models.values(base)
    model = adapt(base, method(), layers="last:2")
    fit(model, inputs)
    assert models.same(models.values(base), before)


@each_method
@each_base
def test_everything_trainable_moves(method, make_base):
    base = make_base()
    model = adapt(base, method(), layers="last:2")
    shake(model)  # From zero, half of a product has no gradient in the first step.
    before = adapter_tensors(model)
    assert len(model.trainable_variables) == len(before) > 0
    fit(model, models.inputs_of(base, rows=6))
    unmoved = [key for key, value in adapter_tensors(model).items() if np.array_equal(value, before[key])]
    # A bias of the keys shifts every score of a row alike, which softmax takes out.
    assert unmoved == []


@each_method
@each_base
def test_saved_and_loaded_gives_the_same_outputs(method, make_base, tmp_path):
    keras.utils.set_random_seed(5)
    first = make_base()
    twin = make_base()
    twin.set_weights(first.get_weights())
    model = adapt(first, method(), layers="last:2")
    shake(model)
    write_tensors(tmp_path / "adapter.safetensors", adapter_tensors(model))
    loaded = adapt(twin, methods.from_config(method().to_config()), layers="last:2")
    assign_adapter_tensors(loaded, read_tensors(tmp_path / "adapter.safetensors"))
    inputs = models.inputs_of(first)
    np.testing.assert_array_equal(run(loaded, inputs), run(model, inputs))


@each_method
@each_base
def test_training_goes_on_after_loading(method, make_base, tmp_path):
    base = make_base()
    model = adapt(base, method(), layers="last:2")
    fit(model, models.inputs_of(base, rows=6))
    model.save_weights(tmp_path / "all.weights.h5")
    trained = adapter_tensors(model)
    shake(model)
    model.load_weights(tmp_path / "all.weights.h5")
    restored = adapter_tensors(model)
    assert all(np.array_equal(restored[key], value) for key, value in trained.items())
    fit(model, models.inputs_of(base, rows=6))
    moved = [key for key, value in adapter_tensors(model).items() if not np.array_equal(value, trained[key])]
    assert len(moved) == len(trained)


@each_method
@each_base
def test_merging_changes_nothing(method, make_base):
    base = make_base()
    model = adapt(base, method(), layers="last:2")
    shake(model)
    inputs = models.inputs_of(base)
    before = run(model, inputs)
    try:
        merged = model.merge()
    except AdapterError:
        pytest.skip(f"{method.name} says that it cannot be merged")
    np.testing.assert_allclose(run(merged, inputs), before, atol=2e-5)
    assert not any(intercept.is_attached(site.layer) for site in find_sites(merged))
    with pytest.raises(AdapterError, match="was detached"):
        model.merge()


@each_method
@each_base
def test_detaching_restores_the_base(method, make_base):
    base = make_base()
    inputs = models.inputs_of(base, rows=6)
    before, outputs = models.values(base), run(base, inputs)
    trainable = [variable.path for variable in base.trainable_variables]
    calls = [dict(site.layer.__dict__) for site in find_sites(base)]
    model = adapt(base, method(), layers="last:2")
    fit(model, inputs)
    assert keras_peft.detach(model) is base
    assert models.same(models.values(base), before)
    np.testing.assert_array_equal(run(base, inputs), outputs)
    assert [variable.path for variable in base.trainable_variables] == trainable
    after = [site.layer.__dict__ for site in find_sites(base)]
    assert all(set(now) == set(then) for now, then in zip(after, calls, strict=True))


@each_method
def test_a_mixed_batch_equals_each_row_alone(method):
    """With a leading axis on every weight, each row is computed with its own weights."""
    base = models.distilbert()
    one = method()
    sites = [
        site
        for site in find_sites(base, bases.roles_of(base))
        if site.role in one.default_targets and one.weights(site)
    ]
    generator = np.random.default_rng(0)
    for site in sites:
        view = projection(site)
        layer = site.layer
        shape = (
            (3, 5, view.inputs)
            if len(layer.kernel.shape) == 2 or site.role != "attention.output"
            else (3, 5, 2, 8)
        )
        inputs = keras.ops.convert_to_tensor(generator.normal(size=shape).astype("float32"))
        rows = {
            name: generator.normal(size=(3, *weight.shape)).astype("float32")
            for name, weight in one.weights(site).items()
        }

        def held(select, site=site, rows=rows):
            weights = {name: keras.ops.convert_to_tensor(select(value)) for name, value in rows.items()}
            return SimpleNamespace(site=site, dropout=lambda x: x, **weights)

        mixed = keras.ops.convert_to_numpy(one.around(held(lambda value: value), layer.call, inputs))
        for row in range(3):
            alone = one.around(held(lambda value, row=row: value[row]), layer.call, inputs[row : row + 1])
            np.testing.assert_allclose(
                mixed[row : row + 1], keras.ops.convert_to_numpy(alone), rtol=1e-5, atol=1e-5
            )


@each_method
@each_base
def test_what_lies_below_the_first_site_is_the_base(method, make_base):
    """The plan's trunk gives what it gave without the adapter, and trains nothing."""
    base = make_base()
    sites = find_sites(base, bases.roles_of(base))
    inputs = models.inputs_of(base)
    if "embedding.token" in method.default_targets:
        pytest.skip(f"{method.name} acts below the first block, so there is no trunk")
    name = "transformer_layer_1" if make_base is models.distilbert else "norm_1"
    trunk = keras.Model(base.input, base.get_layer(name).output)
    before = run(trunk, inputs)
    model = keras_peft.adapt(base, method(), layers="last:1")
    assert (model.plan.blocks, model.plan.trunk_blocks) == (3, 2)
    shake(model)
    np.testing.assert_array_equal(run(trunk, inputs), before)
    inside = {id(variable) for site in sites if site.block in (0, 1) for variable in site.layer.variables}
    assert not any(id(variable) in inside for variable in model.trainable_variables)
    model.detach()
    np.testing.assert_array_equal(run(trunk, inputs), before)


@each_method
def test_config_round_trips_through_json(method):
    one = method()
    again = methods.from_config(json.loads(json.dumps(one.to_config())))
    assert again == one
    assert type(again) is method


@each_method
def test_bad_values_are_refused(method):
    for field in dataclasses.fields(method):
        with pytest.raises(OptionError, match=field.name):
            method(**{field.name: object()})
        if field.type in ("int", "float"):
            with pytest.raises(OptionError, match=field.name):
                method(**{field.name: type(field.default)(-1)})
    with pytest.raises(OptionError, match="no option 'colour'"):
        method.from_options({"colour": 1})


@each_method
def test_no_matching_site_lists_what_there_is(method):
    base = models.distilbert()
    with pytest.raises(SelectionError) as raised:
        keras_peft.adapt(base, method(), targets="attention.qeury")
    assert "This base has: attention, attention.query" in str(raised.value)
    assert "Did you mean 'attention.query'?" in str(raised.value)
    before = models.values(base)
    keras_peft.adapt(base, method(), layers="all").detach()  # A refused try leaves no trace.
    assert models.same(models.values(base), before)


@each_method
def test_mixed_precision_keeps_the_adapter_in_float32(method):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        base = models.distilbert()
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = run(base, models.inputs_of(base))
    model = adapt(base, method(), layers="last:2")
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert run(base, models.inputs_of(base)).dtype == outputs.dtype
    fit(model, models.inputs_of(base, rows=6))


@each_method
def test_class_says_what_the_docs_need(method):
    assert methods.find(method.name) is method
    assert "http" in method.paper
    assert method.learning_rate > 0
    assert method.title
    assert all(field.metadata["help"] for field in dataclasses.fields(method))
    assert "Parameters:" in (method.__doc__ or "")
