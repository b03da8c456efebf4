"""PEFT adapters on KerasHub's language models, compared with outputs of PEFT and transformers.

`reference/make_decoders.py` makes the checkpoints, adapters and outputs. These tests do not need PyTorch.
"""

from __future__ import annotations

import json
import shutil

import keras
import keras_hub
import numpy as np
import pytest
from huggingface_hub import ModelCard
from safetensors.numpy import load_file, save_file

import keras_peft
from conftest import REFERENCE
from core import models
from keras_peft.errors import AdapterError
from sampling import sample
from sources.hub_server import running_hub, use

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

FOLDERS = REFERENCE / "decoders"
KEPT = load_file(FOLDERS / "outputs.safetensors")
INPUTS = {"token_ids": KEPT["input_ids"], "padding_mask": KEPT["attention_mask"]}
CASES = sorted(folder.name for folder in FOLDERS.iterdir() if folder.is_dir())
# Relative to the largest value.
TOLERANCE = 1e-5


def backbone(name):
    # KerasHub uses 1e-6 for Llama and ignores the checkpoint's value.
    options = {"layer_norm_epsilon": 1e-5} if name == "llama" else {}
    return keras_hub.models.Backbone.from_preset(str(REFERENCE / name), **options)


def language_model(name):
    own = backbone(name)
    return getattr(keras_hub.models, type(own).__name__.replace("Backbone", "CausalLM"))(own)


def architecture(case):
    return case.partition("_")[0]


def apart(model, case, what):
    """Returns the largest difference at unpadded tokens, relative to the largest value."""
    outputs, expected = keras.ops.convert_to_numpy(model(INPUTS, training=False)), KEPT[f"{case}.{what}"]
    assert outputs.shape == expected.shape
    seen = INPUTS["padding_mask"].astype(bool)
    return np.abs(outputs - expected)[seen].max() / np.abs(expected[seen]).max()


def settings_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def altered(case, out, *, config=None, tensors=None):
    """Copies a stored adapter and changes its configuration or tensors."""
    shutil.copytree(FOLDERS / case, out)
    if config is not None:
        text = json.dumps({**settings_of(out), **config})
        (out / "adapter_config.json").write_text(text)
    if tensors is not None:
        kept = load_file(out / "adapter_model.safetensors")
        save_file(tensors(kept), out / "adapter_model.safetensors")
    return out


@pytest.mark.parametrize("case", sample(CASES, "gpt2_lora", "llama_patterns", "llama_oft", "gemma_lora"))
def test_there_here_there(case, tmp_path):
    """Compares the hidden states and logits after loading, and the tensors and settings after saving."""
    name = architecture(case)
    model = keras_peft.interop.load_hf_peft(language_model(name), FOLDERS / case)
    assert apart(model, case, "logits") < TOLERANCE
    keras_peft.interop.save_hf_peft(model, tmp_path / "back", base=f"tests/reference/{name}")
    before = load_file(FOLDERS / case / "adapter_model.safetensors")
    after = load_file(tmp_path / "back" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(value, after[key], err_msg=key)
    was, now = settings_of(FOLDERS / case), settings_of(tmp_path / "back")
    same = ("base_model_name_or_path", "task_type", "peft_type", "fan_in_fan_out", "use_rslora", "use_dora")
    for key in same:
        assert key not in was or was[key] == now[key], key
    on_backbone = keras_peft.interop.load_hf_peft(backbone(name), FOLDERS / case)
    assert apart(on_backbone, case, "hidden") < TOLERANCE


@pytest.mark.parametrize("name", sample(sorted({architecture(case) for case in CASES}), "gpt2", "llama"))
def test_the_bases_are_the_same(name):
    """Checks that KerasHub reads the checkpoints as transformers does, which the other tests assume."""
    assert apart(language_model(name), name, "logits") < TOLERANCE
    assert apart(backbone(name), name, "hidden") < TOLERANCE


def gpt2_saved(methods, tmp_path):
    """Saves and loads a random adapter on GPT-2; returns both models and the saved tensors."""
    model = keras_peft.adapt(language_model("gpt2"), methods)
    generator = np.random.default_rng(0)
    random = {
        key: value + generator.normal(0, 0.2, value.shape).astype("float32")
        for key, value in model.adapter_tensors().items()
    }
    model.assign_adapter_tensors(random)
    keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="gpt2")
    again = keras_peft.interop.load_hf_peft(language_model("gpt2"), tmp_path / "saved")
    return model, again, load_file(tmp_path / "saved" / "adapter_model.safetensors")


def part(method, *targets, layers="all"):
    return keras_peft.Placement(method, keras_peft.Selection(targets, layers))


@pytest.mark.parametrize(
    ("methods", "rank"),
    [
        (keras_peft.LoRA(rank=2), 4),
        (keras_peft.LoRA(rank=2, rank_stabilized=True), 4),
        (keras_peft.DoRA(rank=2), 4),
        ([part(keras_peft.LoRA(rank=2), "attention.key")], 2),
        (
            [
                part(keras_peft.LoRA(rank=2, alpha=3.0), "attention.query"),
                part(keras_peft.LoRA(rank=3, alpha=7.0), "attention.key", "attention.value"),
            ],
            8,
        ),
        (
            [
                part(keras_peft.LoRA(rank=2), "attention.query", "attention.value"),
                part(keras_peft.BitFit(), "attention.query", "attention.value"),
            ],
            4,
        ),
    ],
    ids=["lora", "rslora", "dora", "one", "ranks", "biases"],
)
def test_layers_that_are_one_module_there(methods, rank, tmp_path):
    """The layers are trained separately, so the module's rank is the sum of their ranks."""
    model, again, tensors = gpt2_saved(methods, tmp_path)
    name = "base_model.model.transformer.h.1.attn.c_attn"
    assert tensors[f"{name}.lora_A.weight"].shape == (rank, 24)
    assert tensors[f"{name}.lora_B.weight"].shape == (72, rank)
    first, second = (keras.ops.convert_to_numpy(one(INPUTS, training=False)) for one in (model, again))
    np.testing.assert_allclose(first, second, atol=1e-5 * np.abs(first).max())
    keras_peft.interop.save_hf_peft(again, tmp_path / "again", base="gpt2")
    assert settings_of(tmp_path / "again") == settings_of(tmp_path / "saved")
    for key, value in load_file(tmp_path / "again" / "adapter_model.safetensors").items():
        np.testing.assert_allclose(value, tensors[key], atol=1e-6, err_msg=key)


def test_layers_that_trained_apart_come_back_apart(tmp_path):
    model, again, _ = gpt2_saved(keras_peft.LoRA(rank=2), tmp_path)
    before, after = model.adapter_tensors(), again.adapter_tensors()
    assert {key.partition("/")[2]: value.shape for key, value in before.items()} == {
        key.partition("/")[2]: value.shape for key, value in after.items()
    }


def test_an_adapter_matters():
    for case in CASES:
        expected, alone = KEPT[f"{case}.logits"], KEPT[f"{architecture(case)}.logits"]
        assert np.abs(expected - alone).max() > 0.1 * np.abs(alone).max(), case


def test_a_backbone_is_the_model_without_a_head_there(tmp_path):
    """Without a head, the modules' names have no prefix, both in loading and in saving."""
    model = keras_peft.interop.load_hf_peft(backbone("llama"), FOLDERS / "llama_patterns")
    keras_peft.interop.save_hf_peft(model, tmp_path / "bare", base="tests/reference/llama")
    assert settings_of(tmp_path / "bare")["task_type"] == "FEATURE_EXTRACTION"
    before = load_file(FOLDERS / "llama_patterns" / "adapter_model.safetensors")
    after = load_file(tmp_path / "bare" / "adapter_model.safetensors")
    assert {key.replace(".model.model.", ".model.") for key in before} == after.keys()
    again = keras_peft.interop.load_hf_peft(language_model("llama"), tmp_path / "bare")
    assert apart(again, "llama_patterns", "logits") < TOLERANCE


def test_several_on_one_model(tmp_path):
    model = keras_peft.interop.load_hf_peft(language_model("llama"), FOLDERS / "llama_lora")
    assert keras_peft.interop.load_hf_peft(model, FOLDERS / "llama_dora", "other") is model
    assert apart(model, "llama_lora", "logits") < TOLERANCE
    model.activate("other")
    assert apart(model, "llama_dora", "logits") < TOLERANCE
    keras_peft.interop.save_hf_peft(model, tmp_path / "first", "default", base="llama")
    before = load_file(FOLDERS / "llama_lora" / "adapter_model.safetensors")
    after = load_file(tmp_path / "first" / "adapter_model.safetensors")
    assert all(np.array_equal(before[key], after[key]) for key in before)
    with pytest.raises(AdapterError, match="adapter 'nothing'"):
        keras_peft.interop.save_hf_peft(model, tmp_path / "second", "nothing", base="llama")


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_kerashubs_encoders(name, tmp_path):
    model = keras_peft.adapt(getattr(models, name)(), keras_peft.LoRA(rank=2))
    keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base=f"owner/{name}")
    assert settings_of(tmp_path / "saved")["task_type"] == "FEATURE_EXTRACTION"
    again = keras_peft.interop.load_hf_peft(getattr(models, name)(), tmp_path / "saved")
    before, after = model.adapter_tensors(), again.adapter_tensors()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_all_that_does_not_fit_is_said_at_once(tmp_path):
    def spoil(kept):
        key = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
        other = key.replace("1.mlp", "0.mlp")
        return {**kept, key: np.zeros((3, 5), np.float32), other: np.full((3, 24), np.nan, np.float32)}

    folder = altered("llama_lora", tmp_path / "spoilt", tensors=spoil)
    model = language_model("llama")
    with pytest.raises(AdapterError, match="does not fit the model") as caught:
        keras_peft.interop.load_hf_peft(model, folder)
    assert "(24, 3), got (5, 3)" in str(caught.value)
    assert "not finite" in str(caught.value)
    assert apart(model, "llama", "logits") < TOLERANCE  # The model is unchanged and can be adapted.
    keras_peft.interop.load_hf_peft(model, FOLDERS / "llama_lora")


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("llama_lora", {"config": {"use_qalora": True}}, "use_qalora=True is not supported"),
        (
            "llama_lora",
            {"tensors": lambda kept: {**kept, "base_model.model.lm_head.lora_A.weight": np.ones((3, 24))}},
            "base_model.model.lm_head.lora_A.weight fits no supported method",
        ),
        (
            "gpt2_lora",
            {"tensors": lambda kept: {k: v[:-1] if "c_attn.lora_B" in k else v for k, v in kept.items()}},
            "lora_B.weight has 71 rows, but the base has 72 outputs there",
        ),
        (
            "gpt2_lora",
            {"config": {"init_lora_weights": "pissa"}},
            "pissa was initialised from a matrix that is split",
        ),
        ("gpt2_lora", {"config": {"peft_type": "IA3"}}, "it is several layers here, and IA3 cannot be split"),
        ("gpt2_lora", {"config": {"peft_type": "PREFIX_TUNING"}}, "missing"),
    ],
)
def test_what_is_not_computed_here(case, changes, message, tmp_path):
    folder = altered(case, tmp_path / "altered", **changes)
    with pytest.raises(AdapterError, match="cannot be loaded") as caught:
        keras_peft.interop.load_hf_peft(language_model(architecture(case)), folder)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "methods", "message"),
    [
        (
            "gpt2",
            keras_peft.LoRA(rank=2, initialization="pissa"),
            "is initialised from a different matrix than in PEFT",
        ),
        ("gpt2", keras_peft.IA3(), "is part of a module there, but IA3 acts on whole modules"),
        ("llama", keras_peft.PromptTuning(tokens=2), "prompt changes no matrix"),
        ("llama", keras_peft.methods.HoulsbyAdapter(), "PEFT has no equivalent of houlsby"),
        ("phi3", keras_peft.LoRA(rank=2), "a Phi3Backbone, whose layers have no PEFT names"),
    ],
)
def test_what_is_not_computed_there(name, methods, message, tmp_path):
    model = keras_peft.adapt(getattr(models, name)(), methods)
    with pytest.raises(AdapterError, match=message):
        keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="owner/name")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_when_it_is_an_adapter(tmp_path):
    model = keras_peft.adapt(models.llama(), keras_peft.LoRA(rank=2))
    keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="owner/name")
    with pytest.raises(AdapterError, match="exists; choose another `folder`, or replace"):
        keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="owner/name")
    keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="owner/other", overwrite=True)
    assert settings_of(tmp_path / "saved")["base_model_name_or_path"] == "owner/other"
    (tmp_path / "saved" / "checkpoint-500").mkdir()
    with pytest.raises(
        AdapterError, match="contains checkpoint-500 in addition to an adapter of PEFT, which would be lost"
    ):
        keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="owner/name", overwrite=True)
    (tmp_path / "mine").mkdir()
    with pytest.raises(AdapterError, match="is not an adapter of PEFT"):
        keras_peft.interop.save_hf_peft(model, tmp_path / "mine", base="owner/name", overwrite=True)


def test_nothing_is_saved_of_a_merged_model(tmp_path):
    """A saved bias is the base's plus the trained one, and a merged base already includes the trained one."""
    both = ("attention.query", "attention.key", "attention.value")
    model = keras_peft.adapt(
        language_model("gpt2"), [part(keras_peft.LoRA(rank=2), *both), part(keras_peft.BitFit(), *both)]
    )
    model.merge()
    with pytest.raises(AdapterError, match="are merged"):
        keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="gpt2")
    model.unmerge()
    keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="gpt2")


def test_the_card_says_what_the_hub_asks_for(tmp_path):
    model = keras_peft.adapt(models.llama(), keras_peft.LoRA(rank=2))
    keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="owner/name")
    card = ModelCard((tmp_path / "saved" / "README.md").read_text())
    data = card.data.to_dict()
    assert (data["base_model"], data["library_name"]) == ("owner/name", "peft")
    assert "base_model:adapter:owner/name" in data["tags"]
    assert 'AutoPeftModelForFeatureExtraction.from_pretrained("saved")' in card.text
    assert "pipeline_tag" not in data
    keras_peft.interop.save_hf_peft(model, tmp_path / "local", base=str(tmp_path / "saved"))
    assert "base_model" not in ModelCard((tmp_path / "local" / "README.md").read_text()).data.to_dict()
    model = keras_peft.interop.load_hf_peft(language_model("llama"), FOLDERS / "llama_lora")
    keras_peft.interop.save_hf_peft(model, tmp_path / "causal", base="owner/name")
    card = ModelCard((tmp_path / "causal" / "README.md").read_text())
    assert card.data.to_dict()["pipeline_tag"] == "text-generation"
    assert 'AutoPeftModelForCausalLM.from_pretrained("causal")' in card.text


def test_one_of_the_hub_is_called_after_its_repository(tmp_path, monkeypatch):
    with running_hub() as held:
        use(held, monkeypatch, tmp_path)
        held.add("org/fast", FOLDERS / "llama_lora")
        model = keras_peft.interop.load_hf_peft(language_model("llama"), FOLDERS / "llama_dora")
        keras_peft.interop.load_hf_peft(model, "hf://org/fast")
    assert tuple(model.adapters) == ("default", "fast")


def test_nothing_is_saved_that_reads_otherwise(tmp_path, monkeypatch):
    """Writes a wrong `lora_alpha`; the check that reads the adapter back must leave no folder."""
    from keras_peft.interop.hf_peft import lora

    model = keras_peft.interop.load_hf_peft(language_model("llama"), FOLDERS / "llama_lora")
    write = lora.write
    monkeypatch.setattr(lora, "write", lambda adapter: {**write(adapter), "lora_alpha": 9.0})
    with pytest.raises(AdapterError, match="Nothing was saved: when read back"):
        keras_peft.interop.save_hf_peft(model, tmp_path / "saved", base="owner/name")
    assert not list(tmp_path.iterdir())


def test_embeddings_of_language_models_are_not_exchanged(tmp_path):
    model = keras_peft.adapt(models.llama(), keras_peft.LoRA(rank=2), targets="embedding.token")
    with pytest.raises(AdapterError, match="only the input side of a table"):
        keras_peft.interop.save_hf_peft(model, tmp_path / "adapter", base="owner/name")
