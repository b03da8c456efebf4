"""Adapters of PEFT on KerasHub's language models, against what PEFT and transformers computed and stored.

Checkpoints, adapters and outputs were made by `reference/make_decoders.py`; nothing of PyTorch is needed here.
"""

from __future__ import annotations

import json
import shutil

import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_peft
from conftest import REFERENCE

FOLDERS = REFERENCE / "decoders"
KEPT = load_file(FOLDERS / "outputs.safetensors")
INPUTS = {"token_ids": KEPT["input_ids"], "padding_mask": KEPT["attention_mask"]}
CASES = sorted(folder.name for folder in FOLDERS.iterdir() if folder.is_dir())
# Of the largest value.
TOLERANCE = 1e-5


def backbone(name):
    # KerasHub leaves this one at 1e-6 for Llama, whatever the checkpoint says.
    options = {"layer_norm_epsilon": 1e-5} if name == "llama" else {}
    return keras_hub.models.Backbone.from_preset(str(REFERENCE / name), **options)


def language_model(name):
    own = backbone(name)
    return getattr(keras_hub.models, type(own).__name__.replace("Backbone", "CausalLM"))(own)


def architecture(case):
    return case.partition("_")[0]


def apart(model, case, what):
    """The largest difference at tokens that are read, relative to the largest value."""
    outputs, expected = keras.ops.convert_to_numpy(model(INPUTS, training=False)), KEPT[f"{case}.{what}"]
    assert outputs.shape == expected.shape
    seen = INPUTS["padding_mask"].astype(bool)
    return np.abs(outputs - expected)[seen].max() / np.abs(expected[seen]).max()


def settings_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def altered(case, out, *, config=None, tensors=None):
    """A copy of a stored adapter with something else in it."""
    shutil.copytree(FOLDERS / case, out)
    if config is not None:
        text = json.dumps({**settings_of(out), **config})
        (out / "adapter_config.json").write_text(text)
    if tensors is not None:
        kept = load_file(out / "adapter_model.safetensors")
        save_file(tensors(kept), out / "adapter_model.safetensors")
    return out


@pytest.mark.parametrize("case", CASES)
def test_there_here_there(case, tmp_path):
    """The same hidden states and logits here, and the same tensors and settings when it goes back."""
    name = architecture(case)
    model = keras_peft.load_hf_peft(language_model(name), FOLDERS / case)
    assert apart(model, case, "logits") < TOLERANCE
    keras_peft.save_hf_peft(model, tmp_path / "back", base=f"tests/reference/{name}")
    before = load_file(FOLDERS / case / "adapter_model.safetensors")
    after = load_file(tmp_path / "back" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(value, after[key], err_msg=key)
    was, now = settings_of(FOLDERS / case), settings_of(tmp_path / "back")
    for key in ("base_model_name_or_path", "task_type", "peft_type", "fan_in_fan_out", "lora_dropout"):
        assert was[key] == now[key], key
    assert was["use_rslora"] == now["use_rslora"]
    assert was["use_dora"] == now["use_dora"]
    on_backbone = keras_peft.load_hf_peft(backbone(name), FOLDERS / case)
    assert apart(on_backbone, case, "hidden") < TOLERANCE


@pytest.mark.parametrize("name", sorted({architecture(case) for case in CASES}))
def test_the_bases_are_the_same(name):
    """KerasHub reads the checkpoint as transformers does, or the rest would say nothing."""
    assert apart(language_model(name), name, "logits") < TOLERANCE
    assert apart(backbone(name), name, "hidden") < TOLERANCE
