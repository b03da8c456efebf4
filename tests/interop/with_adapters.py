"""Compares logits with AdapterHub's library: each side loads the adapters that the other trains.

    PYTHONPATH=tests python tests/interop/with_adapters.py --peers .venv-peers-adapters/bin/python [--store]

Fails if any logit differs by more than 1e-5 of the largest. `--store` stores the differences for
`docs/benchmarks/exchange.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from live_comparison import Rows, main, run_there
from safetensors.numpy import load_file

import keras_peft
from conftest import REFERENCE, make_rows, write_jsonl

LABELS = ("alpha", "beta", "gamma")
BASES = ("distilbert", "bert", "roberta")
# The methods of there_adapters.py, and their targets.
METHODS = {
    "Pfeiffer, at the norm": (keras_peft.methods.PfeifferNormAdapter(size=4), None),
    "Pfeiffer": (keras_peft.methods.PfeifferAdapter(size=3), None),
    "Houlsby": (keras_peft.methods.HoulsbyAdapter(size=4, activation="silu"), None),
    "Parallel": (keras_peft.methods.ParallelAdapter(size=5), None),
    "Compacter": (keras_peft.methods.Compacter(size=4, products=2), None),
    "LoRA": (keras_peft.LoRA(rank=4), ("attention.query", "attention.value", "ffn.up", "ffn.down")),
    "(IA)³": (keras_peft.IA3(), ("attention.key", "attention.value", "ffn.up")),
}
CASES = [f"{method}/{base}" for method in METHODS for base in BASES]
SAMPLE = [case for case in CASES if case.startswith("LoRA/") or case.endswith("/distilbert")]


def ask(bundle: Path, base: str) -> np.ndarray:
    """Returns the logits of the stored token ids."""
    kept = load_file(REFERENCE / "adapter_hub" / "logits.safetensors")
    given = {"token_ids": kept[f"ids/{base}"], "padding_mask": kept[f"mask/{base}"]}
    return keras.ops.convert_to_numpy(keras_peft.load(bundle).model(given, training=False))


def compared(there: np.ndarray, here: np.ndarray) -> dict[str, float]:
    """Returns the largest difference and the largest logit."""
    assert there.shape == here.shape
    return {"difference": float(np.abs(there - here).max()), "largest_logit": float(np.abs(there).max())}


def train_here(work: Path, method: str, base: str) -> None:
    """Trains a bundle and exports it."""
    chosen, targets = METHODS[method]
    out = work / "trained" / method / base
    keras_peft.fine_tune(
        work / "texts.jsonl",
        out=out,
        method=chosen,
        base=str(REFERENCE / base),
        epochs=3,
        batch_size=12,
        max_length=32,
        learning_rate=5e-2,
        layers="last:2",
        track=[],
        **({} if targets is None else {"targets": targets}),
    )
    keras_peft.interop.export_adapter_hub(out, out=work / "exported" / method / base)


def run(work: Path, peers: str, cases: Sequence[str]) -> Rows:
    """Returns the differences."""
    write_jsonl(work / "texts.jsonl", make_rows(24, labels=LABELS))
    run_there(peers, "there_adapters.py", "train", work)
    rows: Rows = []

    def add(name: str, direction: str, found: dict[str, float]) -> None:
        method, _, base = name.rpartition("/")
        rows.append({"method": method, "architecture": base, "direction": direction, **found})
        print(
            f"{method:<22} {base:<12} {direction:<14} {found['difference']:.1e} of {found['largest_logit']:.2f}"
        )

    for name, logits in load_file(work / "there.safetensors").items():
        base = name.rpartition("/")[2]
        made = keras_peft.interop.import_adapter_hub(work / "there" / name, out=work / "imported" / name)
        add(name, "there to here", compared(logits, ask(made.folder, base)))
    for case in cases:
        method, _, base = case.rpartition("/")
        train_here(work, method, base)
    run_there(peers, "there_adapters.py", "answer", work)
    for name, logits in load_file(work / "answers.safetensors").items():
        base = name.rpartition("/")[2]
        add(name, "here to there", compared(logits, ask(work / "trained" / name, base)))
    return rows


if __name__ == "__main__":
    main(run, "interop_adapter_hub.json", cases=CASES, sample=SAMPLE)
