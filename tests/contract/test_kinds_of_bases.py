"""Quantised bases, mixed precision, and decoders that generate."""

from __future__ import annotations

import re
from functools import cache

import keras
import numpy as np
import pytest

import keras_peft
from contract.laws import MODE, adapt, each_kind, fit, make, run, shake
from core import models
from keras_peft.errors import AdapterError, KerasPeftError, SelectionError
from sampling import thorough


@pytest.mark.feature("Layers", "Quantised layers", "works", "`merge` is refused.")
@each_kind
@pytest.mark.parametrize("mode", ["int8", *thorough("int4")])
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
    if method.starts_as_identity:
        np.testing.assert_allclose(run(base, inputs), outputs, atol=1e-5)
    shake(model)
    assert np.abs(run(base, inputs) - outputs).max() > 1e-4 or not model.adapters["default"].site_weights
    if mode == "int8":
        fit(model, inputs, steps=1)
    if any(
        getattr(weights.site.layer, "quantization_mode", None)
        for weights in model.adapters["default"].site_weights
    ):
        with pytest.raises(AdapterError, match="is quantised|cannot be merged"):
            model.merge()
    model.detach()


@cache
def quantised(mode: str) -> keras.Model:
    """Returns a cached base: quantising takes seconds, and detaching restores the base."""
    base = models.small_distilbert()
    base.quantize(mode)
    return base


@pytest.mark.feature(
    "KerasHub tasks", "`generate` with a cache", "works", "Methods that need all positions are refused."
)
@each_kind
@pytest.mark.parametrize(
    "make_base", [models.gpt2_lm, *thorough(models.llama_lm)], ids=lambda make: make.__name__
)
def test_generation(method, make_base):
    """Checks that cached decoding gives the same tokens as a pass over the whole text, or is refused."""
    base = make_base()
    base.compile(sampler="greedy", jit_compile=MODE)
    prompt = {"token_ids": np.zeros((2, 8), "int32"), "padding_mask": np.zeros((2, 8), "int32")}
    prompt["token_ids"][:, :3] = [[1, 2, 3], [4, 5, 6]]
    prompt["padding_mask"][:, :3] = 1
    try:
        model = keras_peft.adapt(base, make(method))
    except SelectionError as error:  # Llama has no biases, and the linear probe has no head here.
        assert re.search("nothing to train|has none", str(error))
        return
    if not method.generates:
        with pytest.raises(AdapterError, match="cache"):
            model.generate(prompt, stop_token_ids=None)
        with pytest.raises(AdapterError, match="cache"):
            base.generate(prompt, stop_token_ids=None)
        return
    shake(model)
    generated = model.generate(prompt, stop_token_ids=None)["token_ids"]
    np.testing.assert_array_equal(generated[:, :3], prompt["token_ids"][:, :3])
    # Attention is causal, so one pass predicts the next token at every position.
    logits = run(model, {"token_ids": generated, "padding_mask": np.ones_like(generated)})
    np.testing.assert_array_equal(generated[:, 3:], logits[:, 2:-1].argmax(axis=-1))


@pytest.mark.feature("Training", "Mixed precision", "works", "Adapters stay in float32.")
@each_kind
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
