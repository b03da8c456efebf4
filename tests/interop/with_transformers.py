"""Compares classifiers with transformers in both directions.

    PYTHONPATH=tests python tests/interop/with_transformers.py --peers .venv-peers/bin/python [--store]

Imports random classifiers that transformers saved, and compares their logits. Trains classifiers on encoders
without a head and on the saved classifiers, exports them, and compares their logits, and their scores from
`pipeline`. Fails if a logit differs by more than 1e-5 of the largest or of 1, whichever is greater, or a
score by more than 1e-5. `--store` stores the differences for `docs/benchmarks/exchange.md`.
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

LABELS = ("alpha", "beta", "gamma")
# Texts longer and shorter than the tokenizer's limit, and with digits and punctuation.
TEXTS = [
    "Which model is faster?",
    "the people and the time of this model " * 6,
    "No.",
    "12 people, 3 models!",
]
METHODS = {
    "LoRA": keras_peft.LoRA(rank=4, alpha=8.0),
    "DoRA": keras_peft.DoRA(rank=4, alpha=8.0),
    "BitFit": keras_peft.BitFit(),
}
ARCHITECTURES = ("distilbert", "bert", "roberta")
TASKS = ("single", "multi", "number", "words")
CASES = [f"{architecture}_{task}" for architecture in ARCHITECTURES for task in TASKS]
SAMPLE = [case for case in CASES if case.startswith("distilbert_") or case == "roberta_single"]


def rows_of(task: str) -> list[dict[str, object]]:
    """Returns training rows with the labels of the classifiers from transformers."""
    rows: Rows = []
    for number, row in enumerate(make_rows(24, labels=LABELS)):
        words = row["text"].split()
        rows.append(
            {
                "single": {"text": row["text"], "label": row["label"]},
                "multi": {"text": row["text"], "labels": sorted({row["label"], LABELS[number % 2]})},
                "number": {"text": row["text"], "label": 10 + len(words) / 4},
                "words": {
                    "tokens": words,
                    "tags": [("O", "B-name", "I-name")[len(word) % 3] for word in words],
                },
            }[task]
        )
    return rows


def asked(bundle: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """Returns the logits of the texts, and their scores by label."""
    classifier = keras_peft.load(bundle)
    words = classifier.task.per_word
    read = classifier.read_all([text.split() for text in TEXTS] if words else TEXTS)
    outputs = classifier.outputs(read)
    if words:
        return {f"/{row}": rows[rows.any(axis=-1)] for row, rows in enumerate(outputs)}, []
    zeros = np.zeros(classifier.task.outputs, np.float32)
    plain = sum(classifier.task.to_plain(outputs, zeros))
    if not classifier.labels:
        return {"": plain}, [{"LABEL_0": value} for value in classifier.task.values(outputs)]
    scores = classifier.task.probabilities(outputs)
    return {"": plain}, [dict(zip(classifier.labels, row, strict=True)) for row in scores]


def compared(there: dict[str, np.ndarray], name: str, here: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference and the largest logit."""
    pairs = [(there[f"{name}{key}"], value) for key, value in here.items()]
    assert all(one.shape == other.shape for one, other in pairs), name
    return {
        "difference": max(float(np.abs(one - other).max()) for one, other in pairs),
        "largest_logit": max(float(np.abs(one).max()) for one, _ in pairs),
    }


def train(work: Path, out: Path, base: Path, task: str, method: str) -> None:
    """Trains a bundle and exports it."""
    keras_peft.fine_tune(
        work / f"{task}.jsonl",
        out=out,
        method=METHODS[method],
        base=str(base),
        epochs=3,
        batch_size=12,
        max_length=32,
        learning_rate=3e-2,
        layers="all",
        track=[],
    )
    keras_peft.interop.export_hf_model(out, out=work / "exported" / out.name)


def run(work: Path, peers: str, cases: Sequence[str]) -> Rows:
    """Returns the differences."""
    (work / "texts.json").write_text(json.dumps(TEXTS))
    for task in TASKS:
        write_jsonl(work / f"{task}.jsonl", rows_of(task))
    run_there(peers, "there_models.py", "make", work)
    rows: Rows = []

    def add(name: str, direction: str, found: dict[str, float]) -> None:
        architecture, task, *method = name.split("_")
        about = {"architecture": architecture, "task": task, "method": method[0] if method else "its head"}
        rows.append({**about, "direction": direction, **found})
        scores = f", scores {found['scores']:.1e}" if "scores" in found else ""
        print(f"{name:<32} {direction:<14} {found['difference']:.1e} of {found['largest_logit']:.2f}{scores}")

    there = load_file(work / "there.safetensors")
    for name in cases:
        keras_peft.interop.import_hf_model(work / "there" / name, out=work / "imported" / name)
        add(name, "there to here", compared(there, name, asked(work / "imported" / name)[0]))
    trained = {
        f"{case}_{method}": (work / "there" / case, case.rpartition("_")[2], method)
        for case in cases
        for method in METHODS
        if case.endswith("_single") or method == "LoRA"
    }
    trained |= {
        f"{case}_LoRA on a bare encoder": (REFERENCE / case.partition("_")[0], "single", "LoRA")
        for case in cases
        if case.endswith("_single")
    }
    for name, (base, task, method) in trained.items():
        train(work, work / "trained" / name, base, task, method)
    run_there(peers, "there_models.py", "answer", work)
    answers, said = load_file(work / "answers.safetensors"), json.loads((work / "said.json").read_text())
    for name in trained:
        logits, scores = asked(work / "trained" / name)
        found = compared(answers, name, logits)
        if scores:
            assert [set(row) for row in scores] == [set(row) for row in said[name]], name
            largest = max(1.0, *(abs(value) for row in scores for value in row.values()))
            found["scores"] = max(
                abs(value - other[label]) / largest
                for row, other in zip(scores, said[name], strict=True)
                for label, value in row.items()
            )
        add(name, "here to there", found)
    return rows


if __name__ == "__main__":
    main(run, "interop_models.json", cases=CASES, sample=SAMPLE, least=1)
