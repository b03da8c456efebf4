"""Words: a linear model on the words of the text, without a base.

For texts and pairs, the features are the TF-IDF of words and word bigrams; of a pair, the differences and products of
both. For words, they are the word itself, its beginnings, ends and shape, and its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from keras_peft.comparing.yardsticks import _yardstick
from keras_peft.comparing.yardsticks._linear import fit_linear, of_all, one_thread
from keras_peft.comparing.yardsticks._yardstick import Fitted

if TYPE_CHECKING:
    from keras_peft.data.examples import Examples
    from keras_peft.sources import Base
    from keras_peft.tasks import Task

# The exact solver is too slow for more words.
_MANY_WORDS = 30_000


class Yardstick(_yardstick.Yardstick):
    """A linear model on the words of the text."""

    title: ClassVar[str] = "Words (TF-IDF)"

    def fit(self, training: Examples, task: Task, base: Base | None, *, max_length: int, seed: int) -> Fitted:
        """Fits the model; see `Yardstick.fit`."""
        if task.per_word:
            return _tagger(training, task, seed)
        vectorizer = _vectorizer(training.texts)
        run, parameters = fit_linear(task, _features(vectorizer, training.texts), training.labels)
        return Fitted(lambda texts: run(_features(vectorizer, texts)), parameters)


def _vectorizer(texts: Sequence[Any]) -> Any:
    """Fits the TF-IDF of words and word bigrams; of pairs, on both sides."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    return vectorizer.fit(texts if isinstance(texts[0], str) else [text for pair in texts for text in pair])


def _features(vectorizer: Any, texts: Sequence[Any]) -> Any:
    """Returns the features of texts or pairs, (rows, features)."""
    if isinstance(texts[0], str):
        return vectorizer.transform(texts)
    import scipy.sparse

    one, other = (vectorizer.transform(side) for side in zip(*texts, strict=True))
    return scipy.sparse.hstack([abs(one - other), one.multiply(other)]).tocsr()


def _tagger(training: Examples, task: Task, seed: int) -> Fitted:
    """Fits a linear tagger of words."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    vectorizer = DictVectorizer()
    x = vectorizer.fit_transform([_word(row, n) for row in training.texts for n in range(len(row))])
    y = np.concatenate(task.targets(training.labels))
    linear = (
        SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=10, tol=None, random_state=seed)
        if len(y) > _MANY_WORDS
        else LogisticRegression(C=10, max_iter=200)
    )
    with one_thread():
        linear.fit(_narrow(x), y)

    def outputs(texts: Sequence[Any]) -> list[np.ndarray]:
        return [
            _of_taught(
                linear.decision_function(
                    _narrow(vectorizer.transform([_word(row, n) for n in range(len(row))]))
                ),
                linear.classes_,
                task.outputs,
            )
            for row in texts
        ]

    return Fitted(outputs, (x.shape[1] + 1) * task.outputs)


def _of_taught(outputs: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Returns the outputs of all labels, (words, labels)."""
    if outputs.ndim == 1:  # Two classes have one output.
        outputs = np.stack([-outputs, outputs], axis=1)
    return of_all(outputs, classes, count)


def _narrow(x: Any) -> Any:
    """Converts a sparse matrix to the 32-bit indices that scikit-learn's solvers require."""
    import scipy.sparse

    return scipy.sparse.csr_matrix((x.data, x.indices.astype(np.int32), x.indptr.astype(np.int32)), x.shape)


def _word(words: Sequence[str], place: int) -> dict[str, bool]:
    """Returns the features of a word and its neighbours."""
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
