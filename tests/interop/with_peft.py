"""Compares logits with PEFT: each side loads the adapters that the other trains.

    PYTHONPATH=tests python tests/interop/with_peft.py --peers .venv-peers/bin/python [--store]

Fails if any logit differs by more than 1e-5 of the largest. `--store` stores the differences for
`docs/benchmarks/exchange.md`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from live_comparison import Rows, main, run_there
from safetensors.numpy import load_file

import keras_peft
from conftest import REFERENCE, make_rows, write_jsonl
from keras_peft import bundle as bundles

LABELS = ("alpha", "beta", "gamma")
ALL = ("attention.query", "attention.key", "attention.value", "attention.output", "ffn.up", "ffn.down")
SOME = ("attention.query", "attention.value", "ffn.up")
LOW = {"rank": 4, "alpha": 8.0}
# The methods of there.py, and their targets.
METHODS = {
    "LoRA": (keras_peft.LoRA(**LOW), ALL),
    "rsLoRA": (keras_peft.LoRA(**LOW, rank_stabilized=True), None),
    "DoRA": (keras_peft.DoRA(**LOW), SOME),
    "PiSSA": (keras_peft.LoRA(**LOW, initialization="pissa"), SOME),
    "OLoRA": (keras_peft.LoRA(**LOW, initialization="olora"), SOME),
    "LoRA with biases": ([keras_peft.LoRA(**LOW), keras_peft.BitFit()], SOME),
    "LoRA of embeddings": (keras_peft.LoRA(**LOW), ("embedding.token", "attention.value")),
    "AdaLoRA": (keras_peft.AdaLoRA(rank=3, initial_rank=6), SOME),
    "(IA)³": (keras_peft.IA3(), None),
    "VeRA": (keras_peft.methods.VeRA(rank=6), SOME),
    "LoHa": (keras_peft.methods.LoHa(rank=3), SOME),
    "LoKr": (keras_peft.methods.LoKr(rank=2, factor=2), SOME),
    "OFT": (keras_peft.methods.OFT(block_size=4, terms=5), SOME),
    "OFT, exact": (keras_peft.methods.OFT(block_size=4), SOME),
    "Norm tuning": (keras_peft.methods.NormTuning(), None),
    "BitFit": (keras_peft.BitFit(), ("attention.value", "ffn.up")),
    "Prompt tuning": (keras_peft.PromptTuning(tokens=4), None),
    "P-tuning, perceptron": (keras_peft.methods.PTuning(tokens=4, hidden=8), None),
    "P-tuning, LSTM": (keras_peft.methods.PTuning(tokens=4, hidden=8, encoder="lstm"), None),
    "Prefix tuning": (keras_peft.PrefixTuning(tokens=4, shift_positions=True), None),
    "Prefix tuning, perceptron": (
        keras_peft.PrefixTuning(tokens=4, shift_positions=True, projection=True, hidden=8),
        None,
    ),
}
IN_DISTILBERTS_FORM = "bert, as distilbert"
# PEFT has no prefix tuning for DistilBERT.
CASES = [
    f"{method}/{base}"
    for method in METHODS
    for base in ("distilbert", "bert", "roberta")
    if base != "distilbert" or "Prefix" not in method
] + [f"LoRA/{IN_DISTILBERTS_FORM}"]
SAMPLE = [
    case
    for case in CASES
    if case.startswith("LoRA/") or case.endswith("bert" if "Prefix" in case else "/distilbert")
]


def inputs(name: str) -> dict[str, np.ndarray]:
    """Returns the stored token ids for a method on a base."""
    base = name.rpartition("/")[2].partition(",")[0]
    kept = load_file(REFERENCE / "peft_folders" / "logits.safetensors")
    return {"token_ids": kept[f"ids/{base}"], "padding_mask": kept[f"mask/{base}"]}


def compared(name: str, there: np.ndarray, bundle: Path) -> dict[str, float]:
    """Returns the largest difference at text positions; PEFT's outputs may start with virtual tokens."""
    given = inputs(name)
    here = keras.ops.convert_to_numpy(keras_peft.load(bundle).model(given, training=False))
    mask = given["padding_mask"].astype(bool)
    if here.ndim == 3:
        there, here = there[:, -mask.shape[1] :][mask], here[mask]
    assert there.shape == here.shape
    return {"difference": float(np.abs(there - here).max()), "largest_logit": float(np.abs(there).max())}


def there_to_here(work: Path, name: str) -> dict[str, float]:
    """Imports a PEFT adapter and compares its logits."""
    base = name.rpartition("/")[2]
    out = work / "imported" / name
    keras_peft.import_hf_peft(work / "there" / name, out=out, base=str(REFERENCE / base), labels=LABELS)
    return compared(name, load_file(work / "there.safetensors")[name], out)


def train_here(work: Path, method: str, base: str) -> None:
    """Trains and exports a bundle; in DistilBERT's format, its head has a ReLU, as in older bundles."""
    chosen, targets = METHODS[method]
    as_distilbert = base == IN_DISTILBERTS_FORM
    tags = "Prompt" in method or "P-tuning" in method
    out = work / "trained" / method / base
    keras_peft.fine_tune(
        work / ("words.jsonl" if tags else "texts.jsonl"),
        out=out,
        method=chosen,
        base=str(REFERENCE / ("bert" if as_distilbert else base)),
        epochs=3,
        batch_size=12,
        max_length=32,
        learning_rate=3e-2,
        layers="all",
        track=[],
        **({} if targets is None else {"targets": targets}),
    )
    if as_distilbert:
        described = json.loads((out / "bundle.json").read_text(encoding="utf-8"))
        described["task_options"]["activation"] = "relu"
        bundles.seal(out, described)
    keras_peft.export_hf_peft(out, out=work / "exported" / method / base, with_base=as_distilbert)


def run(work: Path, peers: str, cases: Sequence[str]) -> Rows:
    """Returns the differences."""
    texts = make_rows(24, labels=LABELS)
    write_jsonl(work / "texts.jsonl", texts)
    tagged = [
        {"tokens": row["text"].split(), "tags": [LABELS[len(word) % 3] for word in row["text"].split()]}
        for row in texts
    ]
    write_jsonl(work / "words.jsonl", tagged)
    run_there(peers, "there.py", "train", work)
    rows: Rows = []

    def add(name: str, direction: str, found: dict[str, float]) -> None:
        method, _, base = name.rpartition("/")
        rows.append({"method": method, "architecture": base, "direction": direction, **found})
        print(
            f"{method:<28} {base:<22} {direction:<14} {found['difference']:.1e} of {found['largest_logit']:.2f}"
        )

    for name in load_file(work / "there.safetensors"):
        add(name, "there to here", there_to_here(work, name))
    for case in cases:
        method, _, base = case.rpartition("/")
        train_here(work, method, base)
    run_there(peers, "there.py", "answer", work)
    for name, logits in load_file(work / "answers.safetensors").items():
        add(name, "here to there", compared(name, logits, work / "trained" / name))
    return rows


if __name__ == "__main__":
    main(run, "interop.json", cases=CASES, sample=SAMPLE)
