"""Measures what a row costs: frozen blocks, training the top, cache, and prediction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Folders of the repository whose reading is measured.
FOLDERS = 10_000
SENTENCES = Path(__file__).parents[1] / "data" / "sentiment_sentences"
_REPEATED = 3


def measured() -> dict[str, Any]:
    """Trains and predicts in new processes, and returns the best of three runs of each figure."""
    runs = [_run() for _ in range(_REPEATED)]
    return {key: min(run[key] for run in runs) if "seconds" in key else runs[0][key] for key in runs[0]}


def _run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.at_scale.costs", folder]
        environment = {
            **os.environ,
            "KERAS_PEFT_CACHE": str(Path(folder) / "cache"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _measure(folder: Path) -> dict[str, Any]:
    import keras_peft
    from keras_peft.progress import Progress

    epochs = 2
    result = keras_peft.fine_tune(
        SENTENCES / "train.jsonl",
        out=folder / "bundle",
        epochs=epochs,
        validation=SENTENCES / "test.jsonl",
        track=[],
        progress=Progress(),
    )
    report = result.report
    rows, cache, seconds = report["data"]["training_rows"], report["cache"], report["seconds"]
    with (SENTENCES / "train.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    found: dict[str, Any] = {
        "rows": rows,
        "trunk_seconds": (seconds["trunk"] + _of_scored(report)) / cache["rows"],
        "step_seconds": seconds["train"] / (rows * epochs),
        "cache_bytes": cache["bytes"] / cache["rows"],
        "adapter_bytes": sum((folder / "bundle" / name).stat().st_size for name in ("adapter.safetensors",)),
    }
    for engine in ("onnx", "keras"):
        classifier = keras_peft.load(folder / "bundle", engine=engine)
        classifier.predict(texts[:256])
        began = time.perf_counter()
        classifier.predict(texts)
        found[f"{engine}_seconds"] = (time.perf_counter() - began) / len(texts)
    return {**found, "watch_seconds": _watching(folder / "bundles")}


def _watching(folder: Path) -> float:
    """Returns the time in which the server looks for changes in a folder of bundles."""
    from keras_peft.serve.repository import Repository

    for number in range(FOLDERS):
        bundle = folder / f"adapter-{number}"
        bundle.mkdir(parents=True)
        for name in ("adapter.safetensors", "bundle.json", "report.json", "tokenizer.json", "README.md"):
            (bundle / name).touch()
    repository = Repository([folder])
    repository.fingerprints()
    began = time.perf_counter()
    repository.fingerprints()
    return time.perf_counter() - began


def _of_scored(report: dict[str, Any]) -> float:
    """Returns the time of the frozen blocks that counts as scoring, by the share of rows."""
    cache = report["cache"]
    share = report["data"]["validation_rows"] / cache["rows"]
    return float(report["seconds"]["trunk"] * share / (1 - share))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]))) + "\n")
