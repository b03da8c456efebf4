"""Every architecture: roles, blocks, and LoRA on every projection."""

from __future__ import annotations

from collections import Counter

import keras
import keras_hub
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft import bases, sources
from keras_peft.bases import distilbert
from keras_peft.core.sites import find_sites
from sampling import sample

PROJECTIONS = {
    "attention.query": 1,
    "attention.key": 1,
    "attention.value": 1,
    "attention.output": 1,
    "ffn.up": 1,
    "ffn.down": 1,
}
BLOCK = {"block": 1, "attention": 1, **PROJECTIONS}
GATED = {**BLOCK, "ffn.gate": 1}
TOKENS = {"embedding.token": 1}
POSITIONS = {"embedding.token": 1, "embedding.position": 1}
SEGMENTS = {**POSITIONS, "embedding.segment": 1}

# The number of sites of each role in a block, and outside the blocks.
ARCHITECTURES = {
    "albert": (BLOCK | {"norm": 2}, SEGMENTS | {"norm": 1}),
    "bert": (BLOCK | {"norm": 2}, SEGMENTS | {"norm": 1}),
    "deberta_v3": (BLOCK | {"norm": 2}, TOKENS | {"norm": 2}),
    "distilbert": (BLOCK | {"norm": 2}, POSITIONS | {"norm": 1}),
    "electra": (BLOCK | {"norm": 2}, SEGMENTS | {"norm": 1}),
    "gemma": (GATED | {"norm": 4}, TOKENS | {"norm": 1}),
    "gemma3": (GATED | {"norm": 6}, TOKENS | {"norm": 1}),
    "gpt2": (BLOCK | {"norm": 2}, POSITIONS | {"norm": 1}),
    "llama": (GATED | {"norm": 2}, TOKENS | {"norm": 1}),
    "llama3": (GATED | {"norm": 2}, TOKENS | {"norm": 1}),
    "mistral": (GATED | {"norm": 2}, TOKENS | {"norm": 1}),
    "phi3": (GATED | {"norm": 2}, TOKENS | {"norm": 1}),
    "qwen": (GATED | {"norm": 2}, TOKENS | {"norm": 1}),
    "qwen3": (GATED | {"norm": 4}, TOKENS | {"norm": 1}),
    "roberta": (BLOCK | {"norm": 2}, POSITIONS | {"norm": 1}),
    "smollm3": (GATED | {"norm": 2}, TOKENS | {"norm": 1}),
    "vit": (BLOCK | {"norm": 2}, {"norm": 1}),
    "xlm_roberta": (BLOCK | {"norm": 2}, POSITIONS | {"norm": 1}),
}
LANGUAGE_MODELS = ["gpt2_lm", "gemma_lm", "llama_lm", "qwen3_lm", "smollm3_lm"]

each_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def module_name(module):
    return module.__name__.rpartition(".")[2]


def sites_of(model):
    return find_sites(model, bases.roles_of(model))


def roles_by_block(model):
    counts = {}
    for site in sites_of(model):
        if site.role is not None:
            counts.setdefault(site.block, Counter())[site.role] += 1
    return counts


def run(model, inputs):
    return [
        keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(model(inputs, training=False))
    ]


def shake(adapted):
    """Sets the `b` matrices, which start at zero, to random values and returns them."""
    generator = np.random.default_rng(3)
    shaken = {key: b for key, b in adapted.adapter_variables().items() if key.endswith("/b")}
    for b in shaken.values():
        b.assign(generator.normal(size=b.shape))
    return shaken


def test_every_file_is_tested():
    assert sorted(ARCHITECTURES) == [module_name(module) for module in bases.architectures()]


@each_architecture
def test_roles_and_blocks(name):
    model = getattr(models, name)()
    inside, outside = ARCHITECTURES[name]
    assert module_name(bases.architecture_of(model)) == name
    blocks = 1 if name == "albert" else 3 if name == "distilbert" else 2
    assert roles_by_block(model) == {None: outside, **dict.fromkeys(range(blocks), inside)}


def test_one_block_is_a_block():
    assert roles_by_block(models.vit(layers=1)).keys() == {None, 0}
    assert roles_by_block(models.distilbert(layers=1)).keys() == {None, 0}


def test_a_group_of_albert_is_one_block():
    inside, outside = ARCHITECTURES["albert"]
    twice = {role: 2 * count for role, count in inside.items()}
    assert roles_by_block(models.albert(groups=2, repetitions=2)) == {None: outside, 0: twice, 1: twice}


@pytest.mark.parametrize("name", sample(ARCHITECTURES, "albert", "bert", "distilbert", "gemma", "gpt2"))
def test_lora_on_every_projection(name):
    model = getattr(models, name)()
    inputs = models.inputs_of(model)
    weights, outputs = models.values(model), run(model, inputs)
    targets = [role for role in ARCHITECTURES[name][0] if role in PROJECTIONS or role == "ffn.gate"]
    adapted = keras_peft.adapt(model, keras_peft.LoRA(rank=2), layers="last:1", targets=targets)
    assert {site.role for site in adapted.plan.sites} == set(targets)
    assert adapted.plan.trunk_blocks == adapted.plan.blocks - 1
    assert models.same(run(adapted, inputs), outputs)
    shaken = shake(adapted)
    kept = {key: keras.ops.convert_to_numpy(b) for key, b in shaken.items()}
    assert len(kept) == len(adapted.plan.sites)
    for key, b in shaken.items():  # Each projection by itself has an effect.
        for other in shaken.values():
            other.assign(np.zeros(other.shape))
        b.assign(kept[key])
        assert not np.allclose(run(adapted, inputs)[-1], outputs[-1], atol=1e-5), key
    assert keras_peft.detach(adapted) is model
    assert models.same(run(model, inputs), outputs)
    assert models.same(models.values(model), weights)


@pytest.mark.parametrize("module", bases.encoders(), ids=module_name)
def test_encoders_read_ids_and_a_mask(module):
    backbone = getattr(models, module_name(module))()
    inputs = models.inputs_of(backbone)
    inputs.pop("segment_ids", None)
    encoder = module.encoder(backbone)
    outputs = keras.ops.convert_to_numpy(encoder(inputs))
    assert (outputs.shape, encoder.output_shape[-1]) == ((4, 10, 16), 16)
    padded = np.where(inputs["padding_mask"] == 1, inputs["token_ids"], 7)
    again = keras.ops.convert_to_numpy(encoder({**inputs, "token_ids": padded}))
    seen = inputs["padding_mask"] == 1
    np.testing.assert_allclose(again[seen], outputs[seen], atol=1e-5)
    assert {site.block for site in sites_of(encoder)} == {site.block for site in sites_of(backbone)}


@pytest.mark.parametrize(
    ("kind", "make", "heads"),
    [
        ("BertTextClassifier", models.bert, ["logits"]),
        ("AlbertTextClassifier", models.albert, ["logits"]),
        ("RobertaTextClassifier", models.roberta, ["pooled_dense", "logits"]),
        ("XLMRobertaTextClassifier", models.xlm_roberta, ["pooled_dense", "logits"]),
        ("DebertaV3TextClassifier", models.deberta_v3, ["pooled_dense", "logits"]),
        ("DistilBertTextClassifier", models.distilbert, ["pooled_dense", "logits"]),
        ("ViTImageClassifier", models.vit, ["predictions"]),
    ],
)
def test_heads_of_classifiers(kind, make, heads):
    classifier = getattr(keras_hub.models, kind)(make(), num_classes=3)
    sites = sites_of(classifier)
    assert [site.path for site in sites if site.role == "head"] == heads
    blocks = {block: roles for block, roles in roles_by_block(classifier).items() if block is not None}
    assert blocks.keys() == set(range(len(blocks)))
    assert list(blocks.values()) == [ARCHITECTURES[make.__name__][0]] * len(blocks)


@pytest.mark.parametrize("name", sample(LANGUAGE_MODELS, "llama_lm"))
def test_generation_runs_the_adapter(name):
    """Compares cached generation, which bypasses the backbone's call, with generation without a cache."""
    model = getattr(models, name)()
    model.compile(sampler="greedy", jit_compile=False)
    assert "head" not in {site.role for site in sites_of(model)}
    token_ids = np.zeros((2, 12), "int32")
    token_ids[:, :4] = np.random.default_rng(0).integers(1, 50, (2, 4))
    prompt = {"token_ids": token_ids, "padding_mask": np.repeat([[1] * 4 + [0] * 8], 2, axis=0)}

    def generate():
        return model.generate(dict(prompt), stop_token_ids=None)["token_ids"]

    plain = generate()
    targets = [role for role in (*PROJECTIONS, "ffn.gate") if role in {site.role for site in sites_of(model)}]
    adapted = keras_peft.adapt(model, keras_peft.LoRA(rank=2), targets=targets)
    shake(adapted)
    expected = token_ids.copy()
    for position in range(4, 12):
        inputs = {"token_ids": expected, "padding_mask": np.ones_like(expected)}
        expected[:, position] = np.argmax(run(adapted, inputs)[0][:, position - 1], axis=-1)
    np.testing.assert_array_equal(generate(), expected)
    assert not np.array_equal(expected, plain)
    adapted.detach()
    np.testing.assert_array_equal(generate(), plain)


@pytest.mark.real
def test_a_checkpoint_sets_every_value_of_a_base(monkeypatch):
    """The matrices have no values before."""

    unset = []

    class Unknown(keras.initializers.Zeros):
        def __call__(self, shape, dtype=None):
            unset.append(shape)
            return keras.ops.full(shape, np.nan, dtype)

    drawn = Unknown()
    monkeypatch.setattr(distilbert, "_initializer", lambda: drawn)
    base = sources.load("minilm")
    assert unset
    for weight in base.encoder.weights:
        assert np.isfinite(keras.ops.convert_to_numpy(weight)).all(), weight.path
    assert not any("Unknown" in str(layer.get_config()) for layer in base.encoder.layers)
