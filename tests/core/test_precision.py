"""Frozen matrix products in bfloat16: outputs stay close, and the original precision is restored."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import MODE, dense, shake
from keras_peft import methods
from keras_peft.core import intercept, precision
from sampling import sample

BASES = [models.distilbert, models.bert, models.gpt2, models.llama, models.functional, models.subclassed]


@pytest.mark.parametrize("make_base", BASES, ids=lambda make: make.__name__)
def test_it_is_nearly_the_same_and_comes_back_exactly(make_base):
    keras.utils.set_random_seed(0)
    base = make_base()
    targets = {models.functional: "^dense", models.subclassed: "^second$"}.get(make_base)
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), targets=targets)
    shake(model)
    inputs = models.inputs_of(base)
    before = [keras.ops.convert_to_numpy(v) for v in keras.tree.flatten(model(inputs, training=False))]
    with model.lower_precision():
        low = [keras.ops.convert_to_numpy(v) for v in keras.tree.flatten(model(inputs, training=False))]
    after = [keras.ops.convert_to_numpy(v) for v in keras.tree.flatten(model(inputs, training=False))]
    for exact, lowered, again in zip(before, low, after, strict=True):
        np.testing.assert_array_equal(again, exact)
        np.testing.assert_allclose(lowered, exact, atol=0.03 * np.abs(exact).max())
        assert np.linalg.norm(lowered - exact) < 0.02 * np.linalg.norm(exact)
        assert lowered.dtype == exact.dtype == np.float32
    assert any(not np.array_equal(*pair) for pair in zip(before, low, strict=True))
    model.detach()
    assert not any(intercept.is_attached(layer) for layer in base._flatten_layers())


@pytest.mark.slow
@pytest.mark.parametrize("name", sample(methods.names(), "lora", "prefix"))
def test_every_method_trains_in_it(name):
    keras.utils.set_random_seed(0)
    method = methods.find(name)(**({"tokens": 4} if name in ("prompt", "p-tuning") else {}))
    model = keras_peft.adapt(models.small_distilbert(), method, head=dense())
    inputs = models.inputs_of(model.base)
    untouched = [v for v in model.base.variables if not v.trainable]
    frozen = [keras.ops.convert_to_numpy(v) for v in untouched]
    with model.lower_precision():
        # Four eager steps are faster than tracing; one method covers tracing.
        eagerly = name != "lora"
        mode = False if eagerly else MODE
        model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=mode, run_eagerly=eagerly)
        losses = model.fit(inputs, np.ones((4, 3)), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for variable, value in zip(untouched, frozen, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    assert all(str(variable.dtype) == "float32" for variable in model.trainable_variables)


def test_what_the_adapter_reckons_with_stays_exact():
    model = keras_peft.adapt(models.distilbert(), keras_peft.DoRA(), layers="last:1")
    touched = {id(layer) for layer in model._registry.touched()}
    changed = {
        id(layer) for layer, _ in precision.bfloat16_wrappers(model._all_sites, model._registry.touched())
    }
    assert len(touched) == 2
    assert not touched & changed
    assert len(changed) == 3 * 6 - 2


def test_quantised_and_half_precision_layers_are_left_alone():
    base = models.distilbert()
    base.get_layer("transformer_layer_0")._feedforward_output_dense.quantize("int8")
    model = keras_peft.adapt(base, keras_peft.LoRA(), layers="last:1")
    paths = {id(site.layer): site.path for site in model._all_sites}
    changed = [
        paths[id(layer)]
        for layer, _ in precision.bfloat16_wrappers(model._all_sites, model._registry.touched())
    ]
    assert "transformer_layer_0/feedforward_output_dense" not in changed
    assert len(changed) == 3 * 6 - 3


def test_the_processor_is_asked(tmp_path):
    expected = keras.config.backend() == "tensorflow"
    for number, (flags, able) in enumerate((("fma avx512_bf16 sse", expected), ("fma avx2", False))):
        processor = tmp_path / f"cpuinfo-{number}"
        processor.write_text(f"flags\t: {flags}\n")
        assert precision.multiplies_bfloat16(processor) is able
    assert not precision.multiplies_bfloat16(tmp_path / "nothing")
