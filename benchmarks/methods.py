"""Measures the accuracy of each method: many short training runs in one process.

    python benchmarks/methods.py DATA... [--methods lora prefix] [--rates 1e-3 3e-3] [--seeds 0 1] [--store]

DATA is a folder with train.jsonl and test.jsonl, or a single .jsonl file of which each seed holds out
another fifth. Methods train with their own defaults; `--rates` tries other learning rates. The base is
loaded once, and each adapter is detached after its training. Prints a Markdown table of test accuracies: a
row for each method and rate, as soon as it is measured. `--store` saves the results of the defaults in
benchmarks/results/methods.json, from which `make docs` writes the table of docs/reference/methods.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras

from keras_peft import attach, methods, sources, tasks
from keras_peft.core.method import Method
from keras_peft.data.examples import Examples, read_examples, split
from keras_peft.inputs.text import TextEncoder
from keras_peft.progress import Progress
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.outputs import compute_outputs
from keras_peft.sources import Base
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.recipe import Recipe, default_epochs, default_rates
from keras_peft.training.settings import Settings
from keras_peft.training.train import train
from keras_peft.training.trunk_cache import compute_features
from keras_peft.training.validation import HeldOut

RESULTS = Path(__file__).parent / "results" / "methods.json"


def read(data: Path, seed: int) -> tuple[Examples, Examples]:
    """Returns the training rows and the test rows."""
    if data.is_dir():
        return read_examples(data / "train.jsonl"), read_examples(data / "test.jsonl")
    return split(read_examples(data), 0.2, seed=seed)


def measure(base: Base, method: Method, rate: float, seed: int, data: Path, options: Any) -> dict[str, Any]:
    """Trains once and returns the results."""
    began = time.perf_counter()
    training, test = read(data, seed)
    task = tasks.find("single-label").from_labels(training.labels)
    tokenizer = TextEncoder(base.tokenizer, options.max_length)
    truth = task.targets(test.labels)
    sets: Any = [tokenizer(training.texts), tokenizer(test.texts[:16]), tokenizer(test.texts)]
    epochs = options.epochs or default_epochs(len(training), 16)
    layers = options.layers if options.layers and method.default_targets else method.default_layers
    keras.utils.set_random_seed(seed)
    model = attach.adapt(
        base.encoder,
        method.reads(tokenizer.ids),
        layers=layers,
        head=task.head(base.dim),
        pooling=task.pooling,
    )
    trained = model.plan.trainable_parameters
    rates = default_rates(model, rate)
    if method.default_targets:  # otherwise only the head trains
        rates["head/"] = options.head_rate or method.head_learning_rate
    if (split := model.split()) is not None:
        names = (base.sha256, keras.__version__, keras.config.backend())
        quiet = {"progress": Progress(), "stopwatch": Stopwatch()}
        sets, _ = compute_features(base.encoder, split, sets, fingerprint=names, **quiet)
    with model.above(split) if split else nullcontext():
        train(
            model,
            task,
            training=(sets[0], task.targets(training.labels)),
            validation=HeldOut(sets[1], truth[:16]),
            recipe=Recipe(
                epochs=epochs,
                batch_size=16,
                rates=rates,
                label_smoothing=Settings().label_smoothing,
                seed=seed,
            ),
            progress=Progress(),
            stopwatch=Stopwatch(),
        )
        outputs = compute_outputs(Inference(model, sets[2].signature), sets[2])
    model.detach()
    return {
        "epochs": epochs,
        "layers": layers,
        "parameters": trained,
        "accuracy": task.score(outputs, truth).metrics["accuracy"],
        "seconds": time.perf_counter() - began,
    }


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
    parser.add_argument("--epochs", type=int, help="those of the methods by default")
    parser.add_argument("--layers", help="those of the methods by default")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--store", action="store_true", help="keep the rows for the docs")
    options = parser.parse_args()
    changed = [name for name in ("rates", "head_rate", "epochs", "layers") if getattr(options, name)]
    if options.store and changed:
        parser.error(f"--store keeps what the defaults give; leave out {', '.join(changed)}.")
    base = sources.load(options.base)
    print("| data | method | learning rate | epochs | blocks | parameters | test accuracy | seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for data in options.data:
        for name in options.methods:
            method = methods.find(name)()
            for rate in options.rates or [method.learning_rate]:
                runs = [measure(base, method, rate, seed, data, options) for seed in options.seeds]
                accuracies = [run["accuracy"] for run in runs]
                row = {
                    "data": data.stem,
                    "method": name,
                    "learning_rate": rate,
                    **{key: runs[0][key] for key in ("epochs", "layers", "parameters")},
                    "accuracies": [round(accuracy, 4) for accuracy in accuracies],
                    "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
                }
                if options.store:
                    store(row)
                spread = f"{statistics.mean(accuracies):.4f} ({min(accuracies):.4f}–{max(accuracies):.4f})"
                cells = [data.stem, name, f"{rate:g}", row["epochs"], row["layers"], f"{row['parameters']:,}"]
                print(f"| {' | '.join(map(str, cells))} | {spread} | {row['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
