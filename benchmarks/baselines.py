"""Baselines for a fine-tuned model: linear models on the same rows, for every task.

    python benchmarks/baselines.py FOLDER... [--task token-labels]
    python benchmarks/baselines.py FOLDER --json vectors

Each FOLDER contains train.jsonl and test.jsonl. Prints a Markdown table with the first two test
metrics of the task for two linear models: one on words and word bigrams (TF-IDF), and one on the
mean vector of the frozen default base. Both train on all training rows with default
hyperparameters. For pairs, the features are the similarities and differences of the two texts.
For words, the features are the word itself, its prefixes, suffixes and shape, and its neighbours.
`--json` prints all metrics of one of the models, `words` or `vectors`, as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from keras_peft import sources, tasks
from keras_peft.comparing import yardsticks
from keras_peft.data.examples import Examples, read_examples
from keras_peft.tasks import Task

_MAX_LENGTH = 128


def outputs_of(name: str, task: Task, train: Examples, test: Examples, base: sources.Base | None) -> Any:
    """Fits a yardstick and returns its outputs for the test rows, as a head would."""
    fitted = yardsticks.find(name)().fit(train, task, base, max_length=_MAX_LENGTH, seed=0)
    return fitted.outputs(test.texts)


def shown(task: Task, outputs: Any, test: Examples) -> str:
    """Formats the first two metrics."""
    metrics = task.score(outputs, task.targets(test.labels)).metrics
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in list(metrics.items())[:2])


def metrics(folder: Path, features: str) -> dict[str, float]:
    """Trains one model and returns its test metrics, and the seconds without imports."""
    began = time.perf_counter()
    train = read_examples(folder / "train.jsonl")
    test = read_examples(folder / "test.jsonl", task=train.task)
    task = train.task.from_labels(train.labels)
    base = sources.load() if yardsticks.find(features).reads_base else None
    outputs = outputs_of(features, task, train, test, base)
    found = task.score(outputs, task.targets(test.labels)).metrics
    return {**found, "train_seconds": time.perf_counter() - began}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--task", choices=tasks.names(), help="read from the columns by default")
    parser.add_argument("--json", choices=("words", "vectors"), help="print the metrics of one model")
    options = parser.parse_args()
    if options.json:
        print(json.dumps(metrics(options.folders[0], options.json)))
        return
    kind = tasks.find(options.task) if options.task else None
    base = sources.load()
    print("| data | task | words | frozen encoder |\n|---|---|---|---|", flush=True)
    for folder in options.folders:
        train = read_examples(folder / "train.jsonl", task=kind)
        test = read_examples(folder / "test.jsonl", task=train.task)
        task = train.task.from_labels(train.labels)
        cells = [
            shown(task, outputs_of(name, task, train, test, base), test)
            if yardsticks.find(name).suits(type(task))
            else "–"
            for name in ("words", "vectors")
        ]
        print(f"| {folder.name} | {task.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
