"""Compares logits of language models with PEFT: each side loads the adapters that the other trains.

    PYTHONPATH=tests python tests/interop/with_decoders.py --peers .venv-peers/bin/python [--store]

Fails if any logit differs by more than 1e-5 of the largest, or if a loaded tensor is not saved unchanged.
`--store` stores the differences for `docs/benchmarks/exchange.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import keras_hub
import numpy as np
from live_comparison import Rows, main, run_there
from safetensors.numpy import load_file

import keras_peft
from conftest import REFERENCE

NAMES = ("llama", "gpt2", "mistral", "qwen2", "qwen3", "gemma")
KEPT = load_file(REFERENCE / "decoders" / "outputs.safetensors")
INPUTS = {"token_ids": KEPT["input_ids"], "padding_mask": KEPT["attention_mask"]}
ATTENTION = ("attention.query", "attention.key", "attention.value", "attention.output")
LOW = {"rank": 3, "alpha": 8.0}
# The methods of there_decoders.py.
METHODS = {
    "LoRA": [(keras_peft.LoRA(**LOW), (*ATTENTION, "ffn.up", "ffn.down"))],
    "rsLoRA": [(keras_peft.LoRA(**LOW, rank_stabilized=True), ("attention.query", "attention.value"))],
    "DoRA": [(keras_peft.DoRA(**LOW), (*ATTENTION, "ffn.up", "ffn.down"))],
    "LoRA of several ranks": [
        (keras_peft.LoRA(**LOW), ("attention.query", "attention.output")),
        (keras_peft.LoRA(rank=2, alpha=5.0), ("attention.value", "ffn.down")),
    ],
}
CASES = [f"{method}/{name}" for method in METHODS for name in NAMES]
SAMPLE = [case for case in CASES if case.startswith("LoRA/") or case.endswith("/gpt2")]


def language_model(name: str) -> keras.Model:
    """Loads KerasHub's model from the same checkpoint."""
    # KerasHub uses 1e-6 for Llama and ignores the checkpoint's value.
    options = {"layer_norm_epsilon": 1e-5} if name == "llama" else {}
    backbone = keras_hub.models.Backbone.from_preset(str(REFERENCE / name), **options)
    kind = type(backbone).__name__.replace("Backbone", "CausalLM")
    return getattr(keras_hub.models, kind)(backbone)


def compared(there: np.ndarray, model: keras.Model) -> dict[str, float]:
    """Returns the largest difference and the largest logit at unpadded tokens."""
    seen = INPUTS["padding_mask"].astype(bool)
    here = keras.ops.convert_to_numpy(model(INPUTS, training=False))[seen]
    return {
        "difference": float(np.abs(there[seen] - here).max()),
        "largest_logit": float(np.abs(there[seen]).max()),
    }


def there_to_here(work: Path, method: str, name: str) -> dict[str, float]:
    """Loads a PEFT adapter, saves it again, and compares the logits and the saved tensors."""
    folder = work / "there" / method / name
    model = keras_peft.interop.load_hf_peft(language_model(name), folder)
    keras_peft.interop.save_hf_peft(model, work / "back" / method / name, base=name)
    before, after = (
        load_file(path / "adapter_model.safetensors") for path in (folder, work / "back" / method / name)
    )
    if before.keys() != after.keys() or any(not np.array_equal(before[key], after[key]) for key in before):
        sys.exit(f"{method} on {name}: what was loaded is not saved as it was")
    return compared(load_file(work / "there.safetensors")[f"{method}/{name}"], model)


def train_here(work: Path, method: str, name: str) -> keras.Model:
    """Trains a few steps of next-token prediction and saves the adapter."""
    placements = [
        keras_peft.Placement(chosen, keras_peft.Selection(targets, "all"))
        for chosen, targets in METHODS[method]
    ]
    model = keras_peft.adapt(language_model(name), placements)
    model.compile(keras.optimizers.Adam(3e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids, mask = INPUTS["token_ids"], INPUTS["padding_mask"]
    model.fit(INPUTS, np.roll(ids, -1, axis=1), sample_weight=np.roll(mask, -1, axis=1), epochs=6, verbose=0)
    keras_peft.interop.save_hf_peft(model, work / "here" / method / name, base=name)
    return model


def run(work: Path, peers: str, chosen: Sequence[str]) -> Rows:
    """Returns the differences."""
    run_there(peers, "there_decoders.py", "train", work)
    rows: Rows = []

    def add(method: str, name: str, direction: str, found: dict[str, float]) -> None:
        rows.append({"method": method, "architecture": name, "direction": direction, **found})
        print(
            f"{method:<24} {name:<10} {direction:<14} {found['difference']:.1e} of {found['largest_logit']:.2f}"
        )

    cases = [(method, name) for method, _, name in (case.rpartition("/") for case in chosen)]
    for method, name in cases:
        add(method, name, "there to here", there_to_here(work, method, name))
    trained = {(method, name): train_here(work, method, name) for method, name in cases}
    run_there(peers, "there_decoders.py", "answer", work)
    answers = load_file(work / "answers.safetensors")
    for (method, name), model in trained.items():
        add(method, name, "here to there", compared(answers[f"{method}/{name}"], model))
    return rows


if __name__ == "__main__":
    main(run, "interop_decoders.json", cases=CASES, sample=SAMPLE)
