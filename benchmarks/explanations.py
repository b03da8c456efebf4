"""Measures the faithfulness of explanations: the drop in probability without the most important words.

    python benchmarks/explanations.py BUNDLE DATA [--rows 100]

The measure is comprehensiveness: DeYoung et al. 2020, ERASER, https://aclanthology.org/2020.acl-main.408. The
words of each row with the largest weights are removed together; as many random words are the control.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable

import numpy as np

import keras_peft
from keras_peft.explanation import Explanation, Word

SHARE = 0.2
DRAWS = 5


def without(explanation: Explanation, words: list[Word]) -> str:
    """The text without the given words."""
    pieces = (piece for piece, word in explanation.pieces() if word is None or word not in words)
    return " ".join("".join(pieces).split()) or "."


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=100)
    chosen = parser.parse_args()

    classifier = keras_peft.load(chosen.bundle)
    texts = [text for text in keras_peft.read_examples(chosen.data).texts if len(text.split()) >= 5]
    explanations = keras_peft.explain(classifier, texts[: chosen.rows])
    generator = random.Random(0)

    def fall(pick: Callable[[Explanation, int], list[Word]]) -> tuple[float, float]:
        """The mean drop in probability, and the share of rows whose label changes."""
        changed = [without(one, pick(one, math.ceil(SHARE * len(one.words)))) for one in explanations]
        after = classifier.probabilities(changed)
        own = after[np.arange(len(after)), [classifier.labels.index(one.label) for one in explanations]]
        before = np.array([one.probability for one in explanations])
        return float((before - own).mean()), float((own < after.max(axis=1)).mean())

    def strongest(explanation: Explanation, count: int) -> list[Word]:
        return sorted(explanation.words, key=lambda word: -(word.weight or 0))[:count]

    def drawn(explanation: Explanation, count: int) -> list[Word]:
        return generator.sample(explanation.words, count)

    words = np.mean([len(one.words) for one in explanations])
    print(f"{len(explanations)} rows, {words:.1f} words each, {SHARE:.0%} taken away")
    print("strongest: falls by {:.3f}, {:.0%} of labels change".format(*fall(strongest)))
    falls, changes = zip(*(fall(drawn) for _ in range(DRAWS)), strict=True)
    print(f"random: falls by {np.mean(falls):.3f} ({min(falls):.3f} to {max(falls):.3f}), ", end="")
    print(f"{np.mean(changes):.0%} of labels change")


if __name__ == "__main__":
    main()
