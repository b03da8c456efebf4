"""A bundle to a classifier, and texts to predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft import bundle as bundles
from keras_peft import sources, tasks
from keras_peft.data import Examples, check_known_labels, is_text
from keras_peft.errors import BaseNotFound, DataError
from keras_peft.evaluate import Scores, compute_logits, score
from keras_peft.inference import Inference
from keras_peft.tokens import Tokenizer

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.adapted import AdaptedModel


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one text.

    Attributes:
        label: The most probable label.
        probabilities: Of every label, most probable first; they sum to 1.
    """

    label: str
    probabilities: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns `{"label": …, "probabilities": {label: p, …}}`."""
        return {"label": self.label, "probabilities": self.probabilities}


class Classifier:
    """A bundle's adapter on its base, ready to predict; make one with `load`.

    Attributes:
        bundle: The bundle that it was loaded from.
        labels: What it can say.
        model: The adapted Keras model.
    """

    def __init__(self, bundle: Bundle, model: AdaptedModel) -> None:
        self.bundle = bundle
        self.labels = bundle.labels
        self.model = model
        self._task = tasks.find(bundle.content["task"])(bundle.labels)
        content = (bundle.folder / "tokenizer.json").read_text(encoding="utf-8")
        self._tokenizer = Tokenizer(content, bundle.content["max_length"])
        self._run: Inference | None = None

    def predict(
        self, texts: Iterable[str], *, advance: Callable[[int], None] | None = None
    ) -> list[Prediction]:
        """Predicts the labels of texts.

        Args:
            texts: Texts, none of them empty.
            advance: Called with the number of rows after each batch.

        Returns:
            As many predictions, in their order.

        Raises:
            DataError: If a text is empty or is no string.

        Example:
            >>> load("my-bundle").predict(["Jon: Which model is faster?"])[0].label
            'question'
        """
        if isinstance(texts, str):
            raise DataError("predict takes a list of texts, got one string; put it in a list.")
        texts = list(texts)
        if bad := [n for n, text in enumerate(texts, 1) if not is_text(text)]:
            raise DataError(
                f"Texts {bad[:10]} (counted from 1) are empty, are no strings or hold half a character; expected texts."
            )
        if not texts:
            return []
        return [self._prediction(row) for row in self.probabilities(texts, advance=advance)]

    def probabilities(
        self, texts: Sequence[str], *, advance: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Returns the probabilities (texts, labels), in the order of `labels`.

        Args:
            texts: At least one text.
            advance: Called with the number of rows after each batch.
        """
        tokens = self._tokenizer(texts)
        self._run = self._run or Inference(self.model, tokens.signature)
        logits = compute_logits(self._run, tokens, advance=advance)
        return np.asarray(self._task.probabilities(logits))

    def evaluate(self, examples: Examples, *, advance: Callable[[int], None] | None = None) -> Scores:
        """Scores the classifier on labelled texts.

        Args:
            examples: From `read_examples`.
            advance: Called with the number of rows after each batch.

        Raises:
            DataError: If there are labels that the classifier does not know.
        """
        check_known_labels(examples, self.labels)
        probabilities = self.probabilities(examples.texts, advance=advance)
        return score(self.labels, self._task.targets(examples.labels), probabilities)

    def _prediction(self, row: np.ndarray) -> Prediction:
        order = np.argsort(-row, kind="stable")
        return Prediction(
            label=self.labels[order[0]],
            probabilities={self.labels[n]: float(row[n]) for n in order},
        )


def load(folder: str | Path, *, base: str | None = None) -> Classifier:
    """Loads a bundle.

    Args:
        folder: The bundle.
        base: Where its base lies now, if not where it was in training.

    Raises:
        BundleError: If there is no sound bundle.
        BaseError: If its base cannot be had.

    Example:
        >>> classifier = keras_peft.load("my-bundle")
        >>> classifier.predict(["Jon: Which model is faster?"])
    """
    bundle = bundles.read(folder)
    try:
        loaded = sources.load(base or bundle.base_name)
    except BaseNotFound as error:
        raise BaseNotFound(
            f"{folder} needs its base. {error} If it was moved, name its place with --base."
        ) from None
    return Classifier(bundle, bundles.load_model(bundle, loaded))
