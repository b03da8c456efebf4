"""A scikit-learn classifier for texts, for pipelines, grid search and cross-validation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from keras_peft.core.method import Method
from keras_peft.errors import DataError
from keras_peft.predict import Classifier, load_bundle
from keras_peft.progress import Progress
from keras_peft.training.fine_tune import fine_tune

__all__ = ["TextClassifier"]


class TextClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tunes a classifier of texts, as a scikit-learn estimator.

    Args:
        method: The method or its name; `LoRA()` by default.
        base: The base model; see `Settings`.
        layers: Blocks to train in, such as `"last:2"` or `"all"`.
        pooling: How a text's vectors become the one that the head reads; see `Settings`.
        validation: What to validate on; see `Settings`. The scores are in `result_.report`.
        epochs: Number of passes over the training data; chosen by the number of rows by default.
        batch_size: Rows per batch.
        learning_rate: Peak learning rate; the method's default by default.
        class_weights: Weight rows of rare labels higher, so that all labels count equally.
        max_length: Maximum tokens per text.
        long_text: How to handle longer texts: `"cut"` or `"window"`.
        random_state: Random seed.
        verbose: Whether to show the progress.
        out: Folder for the bundle; an existing bundle is replaced. By default, the bundle is only part of the
            estimator, which can be pickled.

    Attributes:
        classes_: The labels, sorted, (classes,).
        result_: Result of the training, with its report.

    Example:
        >>> from sklearn.model_selection import GridSearchCV
        >>> search = GridSearchCV(TextClassifier(), {"epochs": [3, 8], "layers": ["last:1", "last:2"]}, cv=3)
        >>> search.fit(texts, labels).predict(["Which one is faster?"])
        array(['question'], dtype='<U10')
    """

    def __init__(
        self,
        method: Method | str | Sequence[Method | str] = "lora",
        *,
        base: str = "minilm",
        layers: str | Sequence[int] | None = None,
        pooling: str = "auto",
        validation: float | str = "auto",
        epochs: int | None = None,
        batch_size: int = 16,
        learning_rate: float | None = None,
        class_weights: bool = False,
        max_length: int | None = None,
        long_text: str = "cut",
        random_state: int = 0,
        verbose: bool = False,
        out: str | Path | None = None,
    ) -> None:
        self.method = method
        self.base = base
        self.layers = layers
        self.pooling = pooling
        self.validation = validation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.class_weights = class_weights
        self.max_length = max_length
        self.long_text = long_text
        self.random_state = random_state
        self.verbose = verbose
        self.out = out

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803  (scikit-learn's name)
        """Trains on texts and their labels.

        Args:
            X: Texts, (rows,); or pairs of texts, (rows, 2).
            y: One label per text, (rows,): strings, numbers or booleans.

        Returns:
            The estimator.

        Raises:
            DataError: If a text is not a string, or the labels cannot be learned.
        """
        texts = _texts(X)
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels.ravel()
        if labels.ndim != 1 or type_of_target(labels).startswith(("continuous", "multilabel")):
            raise DataError(f"`y`: expected one label per text, got an array of shape {labels.shape}.")
        if len(labels) != len(texts):
            raise DataError(f"`y`: expected {len(texts)} labels, one for each text, got {len(labels)}.")
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        names = [str(label).strip() for label in self.classes_]
        if not all(names) or len(set(names)) < len(names):
            names = [f"class {number}" for number in range(len(names))]
        columns = ["text"] if isinstance(texts[0], str) else ["text_a", "text_b"]
        rows = [
            {
                **dict(zip(columns, [text] if isinstance(text, str) else text, strict=True)),
                "label": names[number],
            }
            for text, number in zip(texts, numbers.ravel(), strict=True)
        ]
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "bundle" if self.out is None else Path(self.out)
            self.result_ = fine_tune(
                rows,
                out=out,
                overwrite=self.out is not None,
                method=self.method,
                base=self.base,
                layers=self.layers,
                pooling=self.pooling,
                validation=self.validation,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                class_weights=self.class_weights,
                max_length=self.max_length,
                long_text=self.long_text,
                seed=self.random_state,
                task="single-label" if len(columns) == 1 else "pairs",
                progress=None if self.verbose else Progress(),
                track=[],
            )
            self._files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
            self._classifier: Classifier | None = load_bundle(out)
            # A bundle sorts its labels as text.
            self._order = [self._classifier.labels.index(name) for name in names]
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Returns the most probable label of each text, (rows,), in the type of the labels passed to `fit`.

        Args:
            X: Texts, (rows,); or pairs of texts, (rows, 2).
        """
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Returns the probability of each label, (rows, classes), in the order of `classes_`.

        Args:
            X: Texts, (rows,); or pairs of texts, (rows, 2).
        """
        check_is_fitted(self)
        texts = _texts(X)
        loaded = self._loaded()
        return loaded.probabilities(loaded.read_all(texts))[:, self._order]

    def _loaded(self) -> Classifier:
        if self._classifier is None:  # The estimator was pickled.
            with tempfile.TemporaryDirectory() as folder:
                for name, content in self._files.items():
                    (Path(folder) / name).write_bytes(content)
                self._classifier = load_bundle(folder)
        return self._classifier

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the base model."""
        state: dict[str, Any] = super().__getstate__()
        return {**state, "_classifier": None} if "_classifier" in state else state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def _texts(given: Any) -> list[Any]:
    """Returns texts or pairs of texts as lists."""
    if isinstance(given, str):
        raise DataError("`X`: expected a list of texts, got a single string; put it in a list.")
    values = np.asarray(given, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.ravel()
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 2) or not len(values):
        raise DataError(
            f"`X`: expected texts of shape (rows,) or pairs of texts of shape (rows, 2), got {values.shape}."
        )
    texts: list[Any] = values.tolist()
    wrong = [one for row in texts for one in ([row] if values.ndim == 1 else row) if not isinstance(one, str)]
    if wrong:
        raise DataError(f"`X`: expected texts, got {len(wrong)} other values, such as {wrong[0]!r}.")
    return texts
