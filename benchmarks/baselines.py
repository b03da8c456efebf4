"""What a classifier has to beat: two baselines with logistic regression.

    python benchmarks/baselines.py FOLDER...

Each FOLDER holds train.jsonl and test.jsonl. Prints a Markdown table with test
accuracy of TF-IDF on words and pairs of words, and of the mean vector of the
frozen default base, both trained on all training rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from keras_peft import sources
from keras_peft.batches import inference_batches
from keras_peft.data import read_examples
from keras_peft.tokens import Tokenizer


def mean_vectors(base: sources.Base, texts: tuple[str, ...]) -> np.ndarray:
    """Means of the encoder's vectors over each text's tokens, (texts, dim)."""
    tokens = Tokenizer(base.tokenizer, 128)(texts)
    means = np.zeros((len(texts), base.dim), np.float32)
    for rows, inputs in inference_batches(tokens):
        vectors = keras.ops.convert_to_numpy(base.encoder.predict_on_batch(inputs))
        mask = inputs["padding_mask"][..., None]
        means[rows] = (vectors * mask).sum(1) / mask.sum(1)
    return means


def main() -> None:
    """Prints the table."""
    base = sources.load()
    print("| data | TF-IDF | frozen encoder |\n|---|---|---|", flush=True)
    for folder in map(Path, sys.argv[1:]):
        train, test = (read_examples(folder / f"{side}.jsonl") for side in ("train", "test"))
        words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=2000))
        words.fit(train.texts, train.labels)
        frozen = make_pipeline(Normalizer(), LogisticRegression(C=10, max_iter=2000))
        frozen.fit(mean_vectors(base, train.texts), train.labels)
        scores = (
            words.score(test.texts, test.labels),
            frozen.score(mean_vectors(base, test.texts), test.labels),
        )
        print(f"| {folder.name} | {scores[0]:.3f} | {scores[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
