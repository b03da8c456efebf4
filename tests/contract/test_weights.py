"""Training, saving and loading, merging and detaching."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras_peft
from contract.laws import adapt, each_base, each_kind, each_method, fit, make, run, shake
from core import models
from keras_peft import methods
from keras_peft.core import intercept
from keras_peft.core.sites import find_sites
from keras_peft.core.weights import read_tensors, write_tensors
from keras_peft.errors import AdapterError


@each_kind
@each_base
def test_training_moves_the_adapter_and_nothing_else(method, make_base):
    """Checks identity at initialisation, that only the adapter's trainable weights change, and detaching."""
    base = make_base()
    inputs = models.inputs_of(base, rows=6)
    before, outputs = models.values(base), run(base, inputs)
    trainable = [variable.path for variable in base.trainable_variables]
    calls = [dict(site.layer.__dict__) for site in find_sites(base)]
    model = adapt(base, make(method))
    # DoRA divides by its initial norms, which causes rounding errors.
    difference = np.abs(run(base, inputs) - outputs).max()
    assert (difference < 1e-5) == method.starts_as_identity, (
        f"a new adapter changes the outputs by {difference}"
    )
    frozen = [v for v in base.weights if not v.trainable]
    frozen_before = [keras.ops.convert_to_numpy(variable) for variable in frozen]
    shake(model)  # A factor has no gradient in the first step if the other factor is zero.
    start = model.adapter_tensors()
    training = model.adapter_variables()
    assert {id(v) for v in training.values()} == {id(v) for v in model.trainable_variables}
    fit(model, inputs, eagerly=make_base is not models.small_distilbert)
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


@each_kind
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
    fit(model, models.inputs_of(base, rows=6), steps=1, eagerly=True)
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
