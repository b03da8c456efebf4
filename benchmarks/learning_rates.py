"""Which learning rate a method trains well with: one process, many short trainings.

    python benchmarks/learning_rates.py FOLDER --methods lora prefix --rates 1e-3 3e-3 1e-2 [--seeds 0 1]

FOLDER holds train.jsonl and test.jsonl, or is a single .jsonl file of which a fifth is held out. The
base is loaded once and given back by each adapter. Prints a Markdown table of test accuracies: a row
for each method and rate, as soon as it is known.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from pathlib import Path

import keras

from keras_peft import attach, methods, sources, tasks
from keras_peft.data import read_examples, split
from keras_peft.evaluate import compute_logits, score
from keras_peft.features import compute_features
from keras_peft.inference import Inference
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.tokens import Tokenizer
from keras_peft.train import HEAD_LEARNING_RATE, default_epochs, train


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--methods", nargs="+", default=methods.names())
    parser.add_argument("--rates", nargs="+", type=float)
    parser.add_argument("--head-rate", type=float, default=HEAD_LEARNING_RATE)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--layers", help="those of the method by default")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--base", default="minilm")
    options = parser.parse_args()
    if options.data.is_dir():
        training = read_examples(options.data / "train.jsonl")
        test = read_examples(options.data / "test.jsonl")
    else:
        training, test = split(read_examples(options.data), 0.2, seed=0)
    base = sources.load(options.base)
    task = tasks.find("single-label").from_labels(training.labels)
    tokenizer = Tokenizer(base.tokenizer, options.max_length)
    tokens, test_tokens = tokenizer(training.texts), tokenizer(test.texts)
    targets, truth = task.targets(training.labels), task.targets(test.labels)
    epochs = options.epochs or default_epochs(len(training), 16)
    print(f"{options.data.name}: {len(training)} rows, {epochs} epochs\n")
    print("| method | learning rate | blocks | trained parameters | test accuracy | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in options.methods:
        method = methods.find(name)()
        for rate in options.rates or [method.learning_rate]:
            accuracies, began = [], time.perf_counter()
            for seed in options.seeds:
                keras.utils.set_random_seed(seed)
                layers = (
                    options.layers if options.layers and method.default_targets else method.default_layers
                )
                model = attach.adapt(
                    base.encoder,
                    method,
                    layers=layers,
                    head=task.head(base.dim),
                    first_position_only=task.first_position_only,
                )
                trained = model.plan.trainable_parameters
                keys = model.adapter_variables()
                of_head = options.head_rate if method.default_targets else rate
                rates = {key: of_head if key.startswith("head/") else rate for key in keys}
                parts = model.split()
                sets = [tokens, tokenizer(test.texts[:16]), test_tokens]
                if parts is not None:
                    names = (base.sha256, keras.__version__, keras.config.backend())
                    sets, _ = compute_features(
                        base.encoder, parts, sets, fingerprint=names, progress=Progress()
                    )
                with model.above(parts) if parts else nullcontext():
                    train(
                        model,
                        task,
                        training=(sets[0], targets),
                        validation=(sets[1], truth[:16]),
                        epochs=epochs,
                        batch_size=16,
                        rates=rates,
                        seed=seed,
                        progress=Progress(),
                        stopwatch=Stopwatch(),
                    )
                    probabilities = task.probabilities(
                        compute_logits(Inference(model, sets[2].signature), sets[2])
                    )
                accuracies.append(score(task.labels, truth, probabilities).accuracy)
                model.detach()
            seconds = (time.perf_counter() - began) / len(options.seeds)
            spread = f"{statistics.mean(accuracies):.4f} ({min(accuracies):.4f}–{max(accuracies):.4f})"
            print(f"| {name} | {rate:g} | {layers} | {trained:,} | {spread} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
