"""Measures the memory that a quantised base saves and its accuracy, with the same adapter on each.

    python benchmarks/quantised.py FOLDER [--method lora] [--seeds 0 1 2]

FOLDER contains train.jsonl and test.jsonl. Each row runs in its own process: it loads the base, quantises
it with `base.quantize(mode)`, trains the method with its defaults and evaluates it on the test file.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

MODES = ("float32", "int8", "int4")


def one(folder: Path, name: str, mode: str, seed: int) -> None:
    """Trains and evaluates once; prints one JSON object."""
    import time
    import warnings

    import keras

    from keras_peft import attach, methods, sources, tasks
    from keras_peft.data.examples import read_examples
    from keras_peft.inputs.text import TextEncoder
    from keras_peft.progress import Progress
    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.outputs import compute_outputs
    from keras_peft.stopwatch import Stopwatch
    from keras_peft.training.recipe import Recipe, default_epochs, default_rates
    from keras_peft.training.settings import LABEL_SMOOTHING
    from keras_peft.training.train import compile_for_training, fit, steps_of
    from keras_peft.training.validation import HeldOut

    training, test = (read_examples(folder / f"{part}.jsonl") for part in ("train", "test"))
    base = sources.load("minilm")
    keras.utils.set_random_seed(seed)
    if mode != "float32":
        with warnings.catch_warnings():  # KerasHub warns of each layer without weights to quantise
            warnings.simplefilter("ignore")
            base.encoder.quantize(mode)
    size = sum(keras.ops.convert_to_numpy(variable).nbytes for variable in base.encoder.weights)
    task = tasks.find("single-label").from_labels(training.labels)
    tokenizer = TextEncoder(base.tokenizer, 128)
    method = methods.find(name)()
    model = attach.adapt(base.encoder, method, layers=method.default_layers, head=task.head(base.dim))
    truth = task.targets(test.labels)
    recipe = Recipe(
        epochs=default_epochs(len(training), 16),
        batch_size=16,
        rates=default_rates(model),
        label_smoothing=LABEL_SMOOTHING,
        seed=seed,
    )
    began = time.perf_counter()
    rows = tokenizer(training.texts)
    compile_for_training(model, task.loss(recipe.label_smoothing), recipe, steps=steps_of(rows, recipe))
    fit(
        model,
        task,
        training=(rows, task.targets(training.labels)),
        validation=HeldOut(tokenizer(test.texts[:16]), truth[:16]),
        recipe=recipe,
        progress=Progress(),
        stopwatch=Stopwatch(),
    )
    seconds = time.perf_counter() - began
    tokens = tokenizer(test.texts)
    outputs = compute_outputs(Inference(model, tokens.signature), tokens)
    accuracy = task.score(outputs, truth).metrics["accuracy"]
    print(json.dumps({"bytes": size, "accuracy": accuracy, "seconds": seconds}))


def main() -> None:
    """Prints the table, each row as soon as it is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--one", nargs=2, metavar=("MODE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.folder, options.method, options.one[0], int(options.one[1]))
        return
    print("| base | weights of the base | test accuracy | training seconds |")
    print("|---|---|---|---|", flush=True)
    for mode in MODES:
        runs = []
        for seed in options.seeds:
            command = [sys.executable, __file__, str(options.folder), "--method", options.method]
            result = subprocess.run(
                [*command, "--one", mode, str(seed)], capture_output=True, text=True, check=False
            )
            if result.returncode:
                sys.exit(result.stderr)
            runs.append(json.loads(result.stdout.splitlines()[-1]))
        accuracies = [run["accuracy"] for run in runs]
        print(
            f"| {mode} | {runs[0]['bytes'] / 2**20:.1f} MB | {statistics.mean(accuracies):.4f} "
            f"({min(accuracies):.4f}–{max(accuracies):.4f}) | "
            f"{statistics.mean(run['seconds'] for run in runs):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
