"""A last block that computes only the first position gives the same outputs there."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import MODE, dense, outputs_of, shake
from keras_peft import bases, methods
from keras_peft.core.sites import find_sites
from sampling import sample, thorough

AFTER = [models.distilbert, *thorough(models.bert, models.roberta, models.xlm_roberta, models.electra)]
BEFORE = [models.gpt2, models.llama, models.albert, models.deberta_v3, models.functional]


def adapt(make_base, method, *, pooling, head=None, **options):
    keras.utils.set_random_seed(1)
    base = make_base()
    inputs = models.inputs_of(base)
    if (encoder := getattr(bases.architecture_of(base), "encoder", None)) is not None:
        base = encoder(base)
        inputs = {name: inputs[name] for name in base.input}
    model = keras_peft.adapt(base, method, head=head or dense(), pooling=pooling, **options)
    shake(model)
    return model, inputs


@pytest.mark.parametrize("make_base", AFTER, ids=lambda make: make.__name__)
def test_the_first_position_is_the_same(make_base):
    model, inputs = adapt(make_base, keras_peft.LoRA(rank=2), pooling=None)
    expected = outputs_of(model, inputs)
    shortened, _ = adapt(make_base, keras_peft.LoRA(rank=2), pooling="first-token")
    np.testing.assert_allclose(outputs_of(shortened, inputs), expected, atol=1e-5)
    assert tuple(shortened.base(inputs).shape) == (4, 1, 16)
    base = shortened.detach()
    assert tuple(base(inputs).shape) == (4, 10, 16)


@pytest.mark.parametrize("name", sample(methods.names(), "lora", "bitfit", "prefix", "prompt", "houlsby"))
def test_whatever_the_method(name):
    method = methods.find(name)(
        **({"tokens": 4} if "tokens" in methods.find(name).__dataclass_fields__ else {})
    )
    model, inputs = adapt(models.small_distilbert, method, pooling=None)
    expected = outputs_of(model, inputs)
    shortened, _ = adapt(models.small_distilbert, method, pooling="first-token")
    np.testing.assert_allclose(outputs_of(shortened, inputs), expected, atol=1e-5)
    last = max(site.block for site in find_sites(shortened.base, shortened.roles) if site.role == "block")
    on_block = [
        weights
        for weights in shortened.adapters["default"].site_weights
        if weights.site.role == "block" and weights.site.block == last
    ]
    assert (tuple(shortened.base(inputs).shape)[1] == 1) is not bool(on_block)


@pytest.mark.parametrize("make_base", BEFORE, ids=lambda make: make.__name__)
def test_others_are_left_as_they_are(make_base):
    assert not bases.has_norms_after(make_base())


@pytest.mark.slow
def test_it_trains_the_same():
    trained = []
    for pooling in (None, "first-token"):
        model, inputs = adapt(
            models.distilbert,
            keras_peft.LoRA(rank=2, dropout=0.0),
            pooling=pooling,
            layers="last:2",
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=MODE)
        model.fit(inputs, np.ones((4, 3)), epochs=3, verbose=0)
        trained.append(model.adapter_tensors())
    for key, value in trained[0].items():
        np.testing.assert_allclose(trained[1][key], value, atol=1e-5, err_msg=key)


@pytest.mark.slow
def test_mixed_rows_and_methods_that_need_all_positions():
    model, inputs = adapt(models.distilbert, keras_peft.LoRA(rank=2), pooling="first-token", adapter="a")
    model.add_adapter("b", keras_peft.methods.LoReFT(), head=dense())
    expected = {}
    for seed, name in enumerate("ab"):
        model.activate(name)
        shake(model, seed)
        expected[name] = outputs_of(model, inputs)
    names = ["a", "b", "b", "a"]
    mixed = model.predict(inputs, adapters=names, verbose=0)
    for row, name in enumerate(names):
        np.testing.assert_allclose(mixed[row], expected[name][row], atol=1e-5)
    np.testing.assert_allclose(model.predict(inputs, adapters=["a"] * 4, verbose=0), expected["a"], atol=1e-5)
