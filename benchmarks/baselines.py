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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import scipy.sparse
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import normalize

from keras_peft import sources, tasks
from keras_peft.data.examples import Examples, read_examples
from keras_peft.inputs.text import TextEncoder
from keras_peft.runtime.rows import inference_batches
from keras_peft.tasks import Task

# The exact solver is too slow for more words.
_MANY_WORDS = 30_000


def word_vectors(train: Examples, test: Examples) -> tuple[Any, Any]:
    """TF-IDF of words and word bigrams, (texts, terms) for both files."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    if isinstance(train.texts[0], str):
        return vectorizer.fit_transform(train.texts), vectorizer.transform(test.texts)
    vectorizer.fit([text for pair in train.texts for text in pair])
    sides = [[vectorizer.transform(side) for side in zip(*one.texts, strict=True)] for one in (train, test)]
    made = [scipy.sparse.hstack([abs(a - b), a.multiply(b)]).tocsr() for a, b in sides]
    return made[0], made[1]


def frozen_vectors(base: sources.Base, examples: Examples) -> np.ndarray:
    """The mean of the encoder's vectors over each row's tokens, normalised to length 1, (texts, dim)."""
    tokens = TextEncoder(base.tokenizer, 128)(examples.texts)
    means = np.zeros((len(examples), base.dim), np.float32)
    for rows, inputs in inference_batches(tokens):
        vectors = keras.ops.convert_to_numpy(base.encoder.predict_on_batch(inputs))
        mask = inputs["padding_mask"][..., None]
        means[rows] = (vectors * mask).sum(1) / mask.sum(1)
    return normalize(means)


def outputs_of(task: Task, x: Any, examples: Examples, y: Any) -> Any:
    """Trains the task's linear model on x and returns the outputs for y, as a head would."""
    targets = task.targets(examples.labels)
    if targets.dtype == np.float32 and targets.ndim == 1:
        return Ridge().fit(x, targets).predict(y)
    linear = LogisticRegression(C=10, max_iter=2000)
    if targets.ndim == 2:
        return OneVsRestClassifier(linear).fit(x, targets).decision_function(y)
    return linear.fit(x, targets).predict_log_proba(y)


def tagged(task: Task, train: Examples, test: Examples) -> list[np.ndarray]:
    """Trains a linear tagger and returns the outputs for each row's words, as a head would."""
    vectorizer = DictVectorizer()
    x = vectorizer.fit_transform([word(row, n) for row in train.texts for n in range(len(row))])
    y = np.concatenate(task.targets(train.labels))
    linear = (
        SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=10, tol=None, random_state=0)
        if len(y) > _MANY_WORDS
        else LogisticRegression(C=10, max_iter=200)
    )
    linear.fit(narrow(x), y)
    return [
        linear.decision_function(narrow(vectorizer.transform([word(row, n) for n in range(len(row))])))
        for row in test.texts
    ]


def narrow(x: Any) -> Any:
    """Converts a sparse matrix to the 32-bit indices that scikit-learn's solvers require."""
    return scipy.sparse.csr_matrix((x.data, x.indices.astype(np.int32), x.indptr.astype(np.int32)), x.shape)


def word(words: Sequence[str], place: int) -> dict[str, bool]:
    """The features of a word and its neighbours."""
    own = words[place]
    shape = "".join("X" if c.isupper() else "x" if c.islower() else "9" if c.isdigit() else c for c in own)
    features = {f"shape={shape[:6]}": True, "first": place == 0}
    for size in (1, 2, 3, 4):
        features |= {f"end={own[-size:].lower()}": True, f"beginning={own[:size].lower()}": True}
    for distance in (-2, -1, 0, 1, 2):
        there = words[place + distance].lower() if 0 <= place + distance < len(words) else "(none)"
        features[f"{distance}={there}"] = True
        if abs(distance) == 1:
            features[f"{distance}:end={there[-3:]}"] = True
    return features


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
    if features == "words":
        x, y = word_vectors(train, test)
    else:
        base = sources.load()
        x, y = frozen_vectors(base, train), frozen_vectors(base, test)
    found = task.score(outputs_of(task, x, train, y), task.targets(test.labels)).metrics
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
        if task.per_word:
            cells = [shown(task, tagged(task, train, test), test), "–"]
        else:
            frozen = frozen_vectors(base, train), frozen_vectors(base, test)
            cells = [
                shown(task, outputs_of(task, x, train, y), test)
                for x, y in (word_vectors(train, test), frozen)
            ]
        print(f"| {folder.name} | {task.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
