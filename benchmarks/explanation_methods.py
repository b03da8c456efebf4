"""Compares other methods of weighting the words of a text with that of `explain`, by the same measure.

    python benchmarks/explanation_methods.py BUNDLE DATA [--rows 100]

The measure is comprehensiveness (DeYoung et al. 2020, https://aclanthology.org/2020.acl-main.408): the drop
in a label's probability without the fifth of the words with the largest weights. Words are removed, or
replaced by masks, since each variant favours the method that uses it. Runs on TensorFlow, on bundles with
BERT tokens and a single label.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import tensorflow as tf

import keras_peft
from keras_peft.core import intercept
from keras_peft.core.sites import find_sites
from keras_peft.explanation import _words

SHARE = 0.2
STEPS = 20
SUBSETS = 5


def taken_away(text, spans):
    """The text without the given words."""
    kept, at = "", 0
    for start, end in spans:
        kept, at = kept + text[at:start], end
    return " ".join((kept + text[at:]).split())


def masked(text, spans):
    """The text with masks in place of the given words."""
    kept, at = "", 0
    for start, end in spans:
        kept, at = kept + text[at:start] + "[MASK]", end
    return kept + text[at:]


class Bench:
    """A classifier, texts that fit its maximum length, and its predictions for them."""

    def __init__(self, classifier, texts):
        self.classifier, self.texts, self.words = classifier, texts, list(map(_words, texts))
        said = classifier.probabilities(texts)
        self.labels, self.before = said.argmax(axis=1), said.max(axis=1)
        self.owners = np.repeat(np.arange(len(texts)), list(map(len, self.words)))

    def told(self, changed, owners):
        """The probabilities of the original texts' labels in changed texts."""
        return self.classifier.probabilities(changed)[np.arange(len(changed)), self.labels[owners]]

    def occlusion(self, change):
        """The drop in probability without each word."""
        pairs = zip(self.texts, self.words, strict=True)
        after = self.told([change(text, [word]) for text, words in pairs for word in words], self.owners)
        falls = self.before[self.owners] - after
        return [falls[self.owners == row] for row in range(len(self.texts))]

    def regression(self):
        """Ridge regression of the probability on the presence of each word, for random subsets."""
        generator = np.random.default_rng(0)
        there = [generator.random((SUBSETS * len(words), len(words))) < 0.5 for words in self.words]
        rows = zip(self.texts, self.words, there, strict=True)
        changed = [
            taken_away(text, [word for word, kept in zip(words, subset, strict=True) if not kept])
            for text, words, subsets in rows
            for subset in subsets
        ]
        told = self.told(changed, np.repeat(np.arange(len(there)), list(map(len, there))))
        weights, at = [], 0
        for subsets in there:
            values = told[at : at + len(subsets)]
            at += len(subsets)
            centred = subsets - subsets.mean(axis=0)
            inner = centred.T @ centred + np.eye(centred.shape[1])
            weights.append(np.linalg.solve(inner, centred.T @ (values - values.mean())))
        return weights

    def integrated_gradients(self, baseline):
        """Integrated gradients of the tokens; Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365."""
        model, tokenizer = self.classifier.model, self.classifier._tokenizer._tokenizer
        layer = next(site.layer for site in find_sites(model.base) if site.layer.name == "token_embedding")
        given = []

        def wrapper(call, *args, **kwargs):
            return given[0] if given else call(*args, **kwargs)

        layout = [
            tf.TensorSpec((STEPS, None, layer.output_dim), tf.float32),
            tf.TensorSpec((STEPS, None), tf.int32),
            tf.TensorSpec((), tf.int32),
        ]

        @tf.function(input_signature=layout)
        def gradients(vectors, ids, label):
            with tf.GradientTape() as tape:
                tape.watch(vectors)
                given.append(vectors)
                logits = model({"token_ids": ids, "padding_mask": tf.ones_like(ids)}, training=False)
                given.clear()
                centred = logits - tf.reduce_mean(logits, axis=-1, keepdims=True)
                told = tf.reduce_sum(tf.gather(centred, label, axis=1))
            return tape.gradient(told, vectors)

        intercept.attach(layer, wrapper)
        table = tf.convert_to_tensor(layer.embeddings)
        shares = tf.constant((np.arange(STEPS) + 0.5) / STEPS, tf.float32)[:, None, None]
        weights = []
        for text, words, label in zip(self.texts, self.words, self.labels, strict=True):
            encoding = tokenizer.encode(text)
            ids = np.array(encoding.ids, np.int32)
            bare = np.where(encoding.special_tokens_mask, ids, tokenizer.token_to_id(baseline))
            start, end = tf.gather(table, bare), tf.gather(table, ids)
            slopes = gradients(start + shares * (end - start), np.tile(ids, (STEPS, 1)), np.int32(label))
            by_token = tf.reduce_sum(tf.reduce_mean(slopes, axis=0) * (end - start), axis=-1).numpy()
            own = np.zeros(len(words))
            for (first, after), weight in zip(encoding.offsets, by_token, strict=True):
                own += [weight if start < after and first < end else 0.0 for start, end in words]
            weights.append(own)
        intercept.detach(layer, wrapper)
        return weights

    def falls(self, weights, change):
        """The drop in each text's probability without the words with the largest weights."""
        changed = []
        for text, words, own in zip(self.texts, self.words, weights, strict=True):
            top = np.argsort(-own, kind="stable")[: max(1, round(SHARE * len(words)))]
            changed.append(change(text, [words[n] for n in sorted(top)]))
        return self.before - self.told(changed, np.arange(len(changed)))


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=100)
    chosen = parser.parse_args()

    classifier = keras_peft.load(chosen.bundle)
    whole = [text for text in keras_peft.read_examples(chosen.data).texts if classifier.seen(text) == (text,)]
    bench = Bench(classifier, [text for text in whole if len(_words(text)) >= 5][: chosen.rows])
    generator = np.random.default_rng(0)
    ways = {
        "word left out": lambda: bench.occlusion(taken_away),
        "at random": lambda: [generator.random(len(words)) for words in bench.words],
        "mask in its place": lambda: bench.occlusion(masked),
        "integrated gradients from padding": lambda: bench.integrated_gradients("[PAD]"),
        "integrated gradients from masks": lambda: bench.integrated_gradients("[MASK]"),
        f"regression on {SUBSETS} subsets a word": bench.regression,
    }
    print(
        f"{len(bench.texts)} rows, {len(bench.owners) / len(bench.texts):.1f} words each, {SHARE:.0%} of them go;"
    )
    print("the fall of the probability, and its difference to the first way with the standard error")
    first = {}
    for name, weigh in ways.items():
        began = time.perf_counter()
        weights = weigh()
        cells = [f"{name:36} {time.perf_counter() - began:5.1f} s"]
        for how, change in (("away", taken_away), ("masked", masked)):
            falls = bench.falls(weights, change)
            beside = falls - first.setdefault(how, falls)
            cells.append(
                f"{how} {falls.mean():.3f} ({beside.mean():+.3f} ± {beside.std() / len(falls) ** 0.5:.3f})"
            )
        print("  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
