"""Compares the methods with Hugging Face PEFT: the same weights give the same hidden states.

PEFT's adapters and outputs are stored in `reference/peft`, made by `reference/make_peft.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import keras
import numpy as np
import pytest
from safetensors import safe_open

import keras_peft
from conftest import REFERENCE
from keras_peft.errors import AdapterError
from keras_peft.interop.hf_peft import kinds, vera
from keras_peft.interop.hf_peft._base import load_base
from keras_peft.interop.hf_peft._read import translate
from methods import hugging_face

CASES = sorted(path.stem for path in (REFERENCE / "peft").glob("*.safetensors"))
# Relative to the largest hidden state, about 5. PEFT's own rounding takes up to a third of it: the
# stored outputs differ by up to 7e-6 from PEFT's outputs in float64.
TOLERANCE = 1e-5

# The difference in trainable parameters where the count is not PEFT's.
COUNTED_OTHERWISE = {
    # Here the smaller matrix of the Kronecker product is one matrix; in PEFT it is a product: in each
    # block three of 4 × 4 against 2 × 4 values ...
    "lokr_both": 3 * 3 * (16 - 8),
    # ... and three of 8 × 8 against 2 × 24 values.
    "lokr_first": 3 * 3 * (64 - 48),
    # Here each block of the rotation has its own 6 values; PEFT shares one block: 4, 4 and 8 against 1.
    "oft_share": 3 * 6 * (3 + 3 + 7),
    # PyTorch's LSTM has two biases of 4 × 8 where one is enough: two layers, two directions.
    "p_tuning_lstm": -2 * 2 * 4 * 8,
}

# Where a network generates PEFT's virtual tokens, PEFT trains that network.
WITH_ENCODER = {
    "p_tuning_mlp": hugging_face.p_tuning,
    "p_tuning_lstm": hugging_face.p_tuning,
    "prefix_tuning_projection": hugging_face.prefix,
}


@dataclass
class Case:
    """A stored file, its tensors grouped by folder."""

    base: str
    config: dict
    converted_config: dict
    trainable: int
    tensors: dict[str, dict[str, np.ndarray]]

    @property
    def inputs(self):
        given = self.tensors["inputs"]
        return {"token_ids": given["input_ids"], "padding_mask": given["attention_mask"]}

    def difference(self, outputs):
        """The largest difference at text positions, relative to the largest value; without virtual tokens."""
        mask = self.tensors["inputs"]["attention_mask"].astype(bool)
        expected = self.tensors["outputs"]["last_hidden_state"][:, -mask.shape[1] :]
        assert outputs.shape == expected.shape
        return np.abs(outputs - expected)[mask].max() / np.abs(expected[mask]).max()


def read(name):
    tensors = {"adapter": {}, "initial": {}, "encoder": {}, "projection": {}, "converted": {}}
    with safe_open(REFERENCE / "peft" / f"{name}.safetensors", "numpy") as file:
        metadata = file.metadata()
        for key in file.keys():  # noqa: SIM118  (not a dictionary)
            folder, _, rest = key.partition("/")
            tensors.setdefault(folder, {})[rest] = file.get_tensor(key)
    configs = [json.loads(metadata.get(key, "{}")) for key in ("config", "converted_config")]
    return Case(metadata["base"], *configs, int(metadata["trainable"]), tensors)


@cache
def load(base):
    """Loads each base once; every adapter is detached after use, which leaves the base unchanged."""
    return load_base(str(REFERENCE / base))


def names_of(base):
    return load(base).names


def run(base, translated, inputs):
    """The hidden states with the adapter, and the number of trainable parameters."""
    model = keras_peft.adapt(load(base).base.encoder, translated.methods)
    try:
        model.assign_adapter_tensors(translated.tensors)
        outputs = keras.ops.convert_to_numpy(model(inputs, training=False))
        return outputs, model.plan.trainable_parameters
    finally:
        model.detach()


@pytest.mark.parametrize("name", CASES)
def test_same_hidden_states_and_count(name):
    case = read(name)
    if name in WITH_ENCODER:
        translated = WITH_ENCODER[name](case.config, case.tensors["encoder"], names_of(case.base))
    else:
        translated = translate(case.config, case.tensors["adapter"], names_of(case.base))
    outputs, count = run(case.base, translated, case.inputs)
    assert case.difference(outputs) < TOLERANCE
    assert count == case.trainable + COUNTED_OTHERWISE.get(name, 0)


def test_the_list_names_stored_cases():
    assert set(COUNTED_OTHERWISE) <= set(CASES)


def test_every_method_that_is_said_to_be_there_has_a_case():
    seen = {read(name).config["peft_type"] for name in CASES}
    methods = [keras_peft.methods.find(name) for name in keras_peft.methods.names()]
    assert {method.hugging_face for method in methods} - {None} == seen == set(kinds())


@pytest.mark.parametrize("name", ["lora_pissa", "lora_olora"])
def test_the_part_taken_out_of_the_base_is_the_same(name):
    """PEFT's file is enough: repeating the initialisation gives the part that PEFT took out of the base."""
    case = read(name)
    translated = translate(case.config, case.tensors["adapter"], names_of(case.base))
    assert case.difference(run(case.base, translated, case.inputs)[0]) < TOLERANCE
    modules = {
        names_of(case.base).site(key.removeprefix("base_model.model.").split(".lora_")[0]).key: key
        for key in case.tensors["initial"]
        if ".lora_A" in key
    }
    for site, key in modules.items():
        ours = translated.tensors[f"{site}/lora/a0"] @ translated.tensors[f"{site}/lora/b0"]
        theirs = case.tensors["initial"][key.replace("lora_A", "lora_B")] @ case.tensors["initial"][key]
        np.testing.assert_allclose(ours, theirs.T, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["lora_pissa", "lora_olora"])
def test_converted_to_a_plain_lora(name):
    case = read(name)
    translated = translate(case.converted_config, case.tensors["converted"], names_of(case.base))
    assert {part.method.initialization for part in translated.methods} == {"default"}
    assert case.difference(run(case.base, translated, case.inputs)[0]) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("p_tuning_mlp", keras_peft.PromptTuning),
        ("p_tuning_lstm", keras_peft.PromptTuning),
        ("prefix_tuning_projection", keras_peft.PrefixTuning),
    ],
)
def test_what_the_encoder_made_is_enough(name, method):
    """PEFT saves only the virtual tokens, not the network that generates them."""
    case = read(name)
    translated = translate(case.config, case.tensors["adapter"], names_of(case.base))
    assert [type(m) for m in translated.methods] == [method]
    assert case.difference(run(case.base, translated, case.inputs)[0]) < TOLERANCE


def test_random_matrices_drawn_as_pytorch_draws_them():
    case = read("vera_drawn")
    stored = [case.tensors["projection"][name] for name in ("vera_A", "vera_B")]
    rank, inputs = stored[0].shape
    drawn = vera.random_matrices(7, rank, inputs, len(stored[1]))
    for ours, theirs in zip(drawn, stored, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "selections"),
    [
        ("lora", [(("attention.query", "attention.value"), "all")]),
        (
            "lora_patterns",
            [
                (("attention.query",), (1, 2)),
                (("attention.value",), (1,)),
                (("attention.value",), (2,)),
            ],
        ),
        ("ln_tuning", [(("norm",), "all")]),
        ("oft_blocks", [(("attention.query", "ffn.up"), "all"), (("ffn.down",), "all")]),
    ],
)
def test_sites_are_named_by_roles_and_blocks(name, selections):
    case = read(name)
    translated = translate(case.config, case.tensors["adapter"], names_of(case.base))
    assert [(p.selection.targets, p.selection.layers) for p in translated.methods] == selections


def test_sites_without_a_common_role_are_named_by_their_paths():
    case = read("lora")
    kept = ("layer.0.attention.q_lin", "layer.2.attention.v_lin")
    tensors = {
        key: value for key, value in case.tensors["adapter"].items() if any(part in key for part in kept)
    }
    (part,) = translate(case.config, tensors, names_of(case.base)).methods
    assert part.selection.targets == (
        r"^transformer_layer_0/self_attention_layer/query$",
        r"^transformer_layer_2/self_attention_layer/value$",
    )


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("lora", {"bias": "all"}, "biases of layers that are not adapted"),
        ("lora", {"init_lora_weights": "corda"}, "init_lora_weights='corda' is not supported"),
        ("lora_pissa", {"init_lora_weights": "pissa_niter_4"}, "a randomised SVD"),
    ],
)
def test_other_settings_are_refused(name, changes, reason):
    case = read(name)
    with pytest.raises(AdapterError, match=reason):
        translate(case.config | changes, case.tensors["adapter"], names_of(case.base))


def test_tensors_that_nothing_takes_are_refused():
    case = read("ia3")
    extra = {"base_model.model.transformer.layer.0.attention.k_lin.other": np.zeros(3, "float32")}
    with pytest.raises(
        AdapterError, match="transformer.layer.0.attention.k_lin.other fits no supported method"
    ):
        translate(case.config, case.tensors["adapter"] | extra, names_of(case.base))
    wrong = {key: value.T if "lin2" in key else value for key, value in case.tensors["adapter"].items()}
    with pytest.raises(AdapterError, match="lin2: it is scaled on the other side"):
        translate(case.config, wrong, names_of(case.base))
