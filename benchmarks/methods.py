"""Measures the accuracy of each method: many short training runs in one process.

    python benchmarks/methods.py DATA... [--methods lora prefix] [--rates 1e-3 3e-3] [--seeds 0 1] [--store]

DATA is a folder with train.jsonl and test.jsonl, or a single .jsonl file of which each seed holds out
another fifth; `--rows` draws a part of the training rows. Methods train with their own defaults; `--rates` tries
other learning rates. Prints a Markdown table of test accuracies: a
row for each method and rate, as soon as it is measured. `--store` saves the results of the defaults in
benchmarks/results/methods.json, from which `make docs` writes the table of docs/reference/methods.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from keras_peft import methods
from keras_peft.core.method import Method
from keras_peft.data.examples import Examples, by_stratum, read_examples, split
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.once import train_once
from keras_peft.training.settings import Settings

RESULTS = Path(__file__).parent / "results" / "methods.json"


def read(data: Path, seed: int) -> tuple[Examples, Examples]:
    """Returns the training rows and the test rows."""
    if data.is_dir():
        return read_examples(data / "train.jsonl"), read_examples(data / "test.jsonl")
    return split(read_examples(data), 0.2, seed=seed)


def measure(method: Method, rate: float, seed: int, data: Path, options: Any) -> dict[str, Any]:
    """Trains once and returns the results."""
    began = time.perf_counter()
    training, test = read(data, seed)
    if options.rows:
        training = training.pick(few(training, options.rows, seed))
    settings = Settings(
        base=options.base,
        seed=seed,
        epochs=options.epochs,
        layers=options.layers if method.default_targets else None,
        learning_rate=rate,
        max_length=options.max_length,
    )
    done = train_once(
        training,
        [method],
        settings,
        validation=test,
        # Methods without targets train the head alone, with a rate of their own.
        rates={"head/": options.head_rate} if options.head_rate and method.default_targets else {},
        progress=Progress(),
        stopwatch=Stopwatch(),
    )
    prepared = done.prepared
    parameters = prepared.model.plan.trainable_parameters
    prepared.model.detach()
    accuracy = prepared.task.score(done.outcome.outputs, prepared.task.targets(test.labels)).metrics[
        "accuracy"
    ]
    return {
        "epochs": prepared.recipe.epochs,
        "layers": settings.layers or method.default_layers,
        "parameters": parameters,
        "accuracy": accuracy,
        "seconds": time.perf_counter() - began,
    }


def few(examples: Examples, rows: int, seed: int) -> np.ndarray:
    """Returns the positions of some rows: one of each label in turn, drawn at random."""
    drawn = [places.tolist() for places in by_stratum(examples, seed=seed)]
    turns = zip_longest(*drawn)
    return np.sort([place for turn in turns for place in turn if place is not None][:rows])


def store(row: dict[str, Any]) -> None:
    """Stores a row and replaces an older one of the same method and data."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    rows = [one for one in rows if (one["method"], one["data"]) != (row["method"], row["data"])]
    rows = sorted([*rows, row], key=lambda one: (one["data"], one["method"]))
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--methods", nargs="+", default=methods.names())
    parser.add_argument("--rates", nargs="+", type=float, help="those of the methods by default")
    parser.add_argument("--head-rate", type=float, help="those of the methods by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="training rows, one of each label in turn; all by default")
    parser.add_argument("--epochs", type=int, help="those of the methods by default")
    parser.add_argument("--layers", help="those of the methods by default")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--store", action="store_true", help="keep the rows for the docs")
    options = parser.parse_args()
    changed = [name for name in ("rates", "head_rate", "epochs", "layers") if getattr(options, name)]
    if options.store and changed:
        parser.error(f"--store keeps what the defaults give; leave out {', '.join(changed)}.")
    print("| data | method | learning rate | epochs | blocks | parameters | test accuracy | seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for data in options.data:
        for name in options.methods:
            method = methods.find(name)()
            for rate in options.rates or [method.learning_rate]:
                runs = [measure(method, rate, seed, data, options) for seed in options.seeds]
                accuracies = [run["accuracy"] for run in runs]
                row = {
                    "data": data.stem + (f", {options.rows} rows" if options.rows else ""),
                    "method": name,
                    "learning_rate": rate,
                    **{key: runs[0][key] for key in ("epochs", "layers", "parameters")},
                    "accuracies": [round(accuracy, 4) for accuracy in accuracies],
                    "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
                }
                if options.store:
                    store(row)
                spread = f"{statistics.mean(accuracies):.4f} ({min(accuracies):.4f}–{max(accuracies):.4f})"
                cells = [
                    row["data"],
                    name,
                    f"{rate:g}",
                    row["epochs"],
                    row["layers"],
                    f"{row['parameters']:,}",
                ]
                print(f"| {' | '.join(map(str, cells))} | {spread} | {row['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
