"""Compares exported classifiers with SetFit and sentence-transformers.

    PYTHONPATH=tests python tests/interop/with_setfit.py --peers .venv-peers/bin/python [--store]

Trains classifiers that read the mean or the maximum, exports them, and compares the probabilities of SetFit and the
vectors of sentence-transformers with those of the bundle. Fails if one differs by more than 1e-5 of the largest or of
1, whichever is greater. `--store` stores the differences for `docs/benchmarks/exchange.md`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from live_comparison import Rows, main, run_there
from safetensors.numpy import load_file

import keras_peft
from conftest import REFERENCE, make_rows, write_jsonl

# Texts longer and shorter than the tokenizer's limit, and with digits and punctuation.
TEXTS = [
    "Which model is faster?",
    "the people and the time of this model " * 6,
    "No.",
    "12 people, 3 models!",
]
METHODS = {"LoRA": keras_peft.LoRA(rank=4, alpha=8.0), "BitFit": keras_peft.BitFit()}
LABELS = {"mean": ("alpha", "beta", "gamma"), "max": ("alpha", "beta")}
CASES = [f"{base}_{pooling}" for base in ("distilbert", "bert", "roberta") for pooling in LABELS]
SAMPLE = ["distilbert_mean", "bert_max"]


def train(work: Path, name: str) -> Path:
    """Trains a bundle and exports it."""
    base, pooling, method = name.split("_")
    out = work / "trained" / name
    keras_peft.fine_tune(
        write_jsonl(work / f"{pooling}.jsonl", make_rows(24, labels=LABELS[pooling])),
        out=out,
        method=METHODS[method],
        base=str(REFERENCE / base),
        pooling=pooling,
        epochs=3,
        batch_size=12,
        max_length=32,
        learning_rate=3e-2,
        layers="all",
        validation=0.2,
        track=[],
    )
    keras_peft.interop.export_sentence_transformers(out, out=work / "exported" / name)
    return out


def run(work: Path, peers: str, cases: Sequence[str]) -> Rows:
    """Returns the differences."""
    (work / "texts.json").write_text(json.dumps(TEXTS))
    names = [f"{case}_{method}" for case in cases for method in METHODS]
    trained = {name: train(work, name) for name in names}
    run_there(peers, "there_setfit.py", "answer", work)
    there = load_file(work / "answers.safetensors")
    rows: Rows = []
    for name, bundle in trained.items():
        classifier = keras_peft.load(bundle)
        with classifier.vectors_and_outputs() as compute:
            vectors, outputs = compute(classifier.read_all(TEXTS))
        scores = np.abs(there[f"{name}/probabilities"] - classifier.task.probabilities(outputs)).max()
        base, pooling, method = name.split("_")
        rows.append(
            {
                **{"architecture": base, "task": pooling, "method": method, "direction": "here to there"},
                "difference": float(np.abs(there[f"{name}/vectors"] - vectors).max()),
                "largest_logit": float(np.abs(vectors).max()),
                "scores": float(scores),
            }
        )
        print(f"{name:<24} vectors {rows[-1]['difference']:.1e}, probabilities {rows[-1]['scores']:.1e}")
    return rows


if __name__ == "__main__":
    main(run, "interop_setfit.json", cases=CASES, sample=SAMPLE, least=1)
