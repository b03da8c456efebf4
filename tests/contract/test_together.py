"""Several adapters on one base: mixed batches, disabling, and the trunk."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from contract.laws import adapt, each_base, each_kind, head, layers_of, make, run, shake
from core import models
from keras_peft.core import intercept
from keras_peft.errors import AdapterError


@each_kind
@each_base
def test_a_mixed_batch_equals_each_row_alone(method, make_base):
    """Mixes rows of two adapters of one method and of an adapter with another method and other labels."""
    base = make_base()
    model = adapt(base, make(method), adapter="first")
    model.add_adapter("second", make(method), layers=layers_of(method), head=head(3))
    model.add_adapter("other", keras_peft.LoRA(rank=2), layers="last:1", head=head(5))
    for seed, name in enumerate(model.adapters):
        model.activate(name)
        shake(model, seed)
    inputs = models.inputs_of(base, rows=5)
    names = ["first", "other", "second", "first", "other"]
    if not method.supports_mixed_batch:
        with pytest.raises(AdapterError, match="cannot share a batch"):
            model.predict(inputs, adapters=names)
        return
    mixed = model.predict(inputs, adapters=names, verbose=0)
    for name in model.adapters:
        model.activate(name)
        alone = run(model, inputs)
        for row in (row for row, other in enumerate(names) if other == name):
            np.testing.assert_allclose(mixed[row], alone[row], atol=2e-5)


@each_kind
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


@each_kind
@each_base
def test_the_layers_below_the_first_site_are_the_base(method, make_base):
    """Checks that the trunk computes the same with the adapter disabled, and has no trainable variables."""
    base = make_base()
    takes_some = method.default_targets and not method.every_block
    model = adapt(base, make(method), layers="last:1" if takes_some else "all")
    below = model.plan.trunk_blocks
    blocks = {site.block: site.layer for site in model._all_sites if site.role == "block"}
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
