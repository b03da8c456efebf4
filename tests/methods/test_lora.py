"""LoRA: the low-rank update against the full product, parameter counts and options."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.errors import OptionError


def test_the_whole_parameter_tree():
    model = keras_peft.adapt(
        models.distilbert_classifier(),
        keras_peft.LoRA(rank=4),
        layers="last:1",
        targets=["attention.query", "attention.output", "ffn.up", "ffn.down"],
    )
    block = "distil_bert_backbone/transformer_layer_2"
    attention = f"{block}/self_attention_layer"
    assert {key: value.shape for key, value in model.adapter_tensors().items()} == {
        f"{attention}/query/lora/a": (16, 4),
        f"{attention}/query/lora/b": (4, 16),
        f"{attention}/attention_output/lora/a": (16, 4),
        f"{attention}/attention_output/lora/b": (4, 16),
        f"{block}/feedforward_intermediate_dense/lora/a": (16, 4),
        f"{block}/feedforward_intermediate_dense/lora/b": (4, 32),
        f"{block}/feedforward_output_dense/lora/a": (32, 4),
        f"{block}/feedforward_output_dense/lora/b": (4, 16),
        "pooled_dense/kernel": (16, 16),
        "pooled_dense/bias": (16,),
        "logits/kernel": (16, 3),
        "logits/bias": (3,),
    }


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_count_follows_the_formula(rank):
    base = models.functional()
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=rank), layers="all")
    sites = 6  # query and value in three blocks
    assert model.plan.trainable_parameters == sites * rank * (16 + 16)
    assert model.plan.total_parameters == base.count_params() + sites * rank * 32


@pytest.mark.parametrize(
    "target", ["attention.query", "attention.value", "attention.output", "ffn.up", "ffn.down"]
)
@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_low_rank_path_equals_the_changed_kernel(target, rank_stabilized):
    """y = x (W + s A B) + b, then the activation, computed with the full kernel."""
    method = keras_peft.LoRA(rank=4, alpha=6.0, rank_stabilized=rank_stabilized)
    base = models.distilbert()
    inputs = models.inputs_of(base)
    model = keras_peft.adapt(base, method, layers="last:1", targets=target)
    (weights,) = model.adapters["default"].site_weights
    generator = np.random.default_rng(2)
    a, b = (generator.normal(size=weights.values[name].shape).astype("float32") for name in ("a", "b"))
    weights.values["a"].assign(a)
    weights.values["b"].assign(b)
    adapted = keras.ops.convert_to_numpy(model(inputs))
    model.detach()
    kernel = weights.site.layer.kernel
    scale = 6.0 / (2.0 if rank_stabilized else 4.0)
    kernel.assign_add((scale * a @ b).reshape(kernel.shape))
    np.testing.assert_allclose(adapted, keras.ops.convert_to_numpy(base(inputs)), atol=2e-5)


def test_a_starts_uniform_within_one_over_root_in():
    model = keras_peft.adapt(models.distilbert(), keras_peft.LoRA(rank=64), layers="all")
    a = np.concatenate(
        [value.ravel() for key, value in model.adapter_tensors().items() if key.endswith("/a")]
    )
    bound = 1 / math.sqrt(16)
    assert np.abs(a).max() <= bound
    assert a.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_dropout_acts_in_training_only():
    base = models.distilbert()
    inputs = models.inputs_of(base)
    model = keras_peft.adapt(base, keras_peft.LoRA(dropout=0.5), layers="all")
    for weights in model.adapters["default"].site_weights:
        weights.values["b"].assign(np.ones(weights.values["b"].shape, "float32"))
    first, second = (keras.ops.convert_to_numpy(model(inputs, training=False)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first, second = (keras.ops.convert_to_numpy(model(inputs, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_no_gradient_of_the_kernel_is_made():
    model = keras_peft.adapt(models.distilbert(), keras_peft.LoRA(), layers="last:2")
    assert all("lora" in variable.path for variable in model.trainable_variables)
    assert not any(variable.trainable for variable in model.base.variables)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "`rank` must be at least 1, got 0"),
        ({"rank": 2.5}, "`rank` must be int, got 2.5"),
        ({"rank": True}, "`rank` must be int, got True"),
        ({"alpha": 0.0}, "`alpha` must be above 0, got 0.0"),
        ({"alpha": math.nan}, "`alpha` must be finite, got nan"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and below 1, got 1.0"),
        ({"rank_stabilized": 1}, "`rank_stabilized` must be bool, got 1"),
        ({"rank": 0, "dropout": 2.0}, "`rank` must be at least 1, got 0. `dropout` must be"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(OptionError, match=message):
        keras_peft.LoRA(**options)
