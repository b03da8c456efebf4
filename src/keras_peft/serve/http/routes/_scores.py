"""Predictions as `[{"label", "score"}]`, as most protocols expect, and tags in Hugging Face's format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NotRequired

import numpy as np
from typing_extensions import TypedDict  # Pydantic supports the one of typing only from Python 3.12.

from keras_peft.tasks import Prediction, Task, multi_label, regression, token_labels
from keras_peft.tasks.token_labels import OUTSIDE

Function = Literal["softmax", "sigmoid", "none"]
# Name of the predicted number of a regression.
VALUE = "value"


class Score(TypedDict):
    """A label and its score.

    `said` is present if the score alone does not show whether the label is predicted: for
    multi-label tasks, and if the adapter abstains.
    """

    label: str
    score: float
    said: NotRequired[bool]


class Entity(TypedDict):
    """An entity in a text: a group of words, or a single word."""

    entity_group: NotRequired[str]
    entity: NotRequired[str]
    word: str
    score: float
    start: int
    end: int


def scores(
    task: Task,
    prediction: Any,
    outputs: np.ndarray,
    *,
    function: Function | None = None,
    top_k: int | None = None,
) -> list[Score]:
    """Converts a prediction to labels with scores, highest first.

    Args:
        task: Task of the adapter.
        prediction: Prediction for a text, except token labels.
        outputs: Head outputs, of shape (outputs,).
        function: Function that turns outputs into scores. Defaults to the calibrated probabilities
            of the task.
        top_k: Maximum number of labels, or None for all.

    Returns:
        The labels with their scores.
    """
    if isinstance(prediction, regression.Prediction):
        return [{"label": VALUE, "score": prediction.value}]
    probabilities = prediction.probabilities
    if function is not None and function != _own(task):
        applied = _APPLIED[function](outputs.astype(np.float64))
        order = np.argsort(-applied, kind="stable")
        probabilities = {task.labels[n]: float(applied[n]) for n in order}
    found: list[Score] = [{"label": label, "score": score} for label, score in probabilities.items()]
    if isinstance(prediction, multi_label.Prediction):
        for one in found:
            one["said"] = one["label"] in prediction.labels
    elif prediction.label is None:
        for one in found:
            one["said"] = False
    return found[:top_k]


def entities(
    task: Task,
    prediction: token_labels.Prediction,
    outputs: np.ndarray,
    given: str | Sequence[str],
    *,
    grouped: bool = True,
    ignored: Collection[str] = (OUTSIDE,),
) -> list[Entity]:
    """Converts predicted tags to Hugging Face's token classification format.

    Args:
        task: Task of the adapter.
        prediction: Words and their tags.
        outputs: Head outputs, of shape (words, tags).
        given: The text or words of the request. Offsets in words count one space between words.
        grouped: Whether to merge the words of an entity.
        ignored: Tags or entity labels to leave out.

    Returns:
        The entities in text order.
    """
    text = given if isinstance(given, str) else " ".join(given)
    places = _places(text, prediction.words)
    of_tag = {tag: n for n, tag in enumerate(task.labels)}
    numbers = [of_tag[tag] for tag in prediction.tags]
    sure = _softmax(outputs.astype(np.float64))[np.arange(len(numbers)), numbers]
    if not grouped or not prediction.spans:
        key = "entity" if not grouped else "entity_group"
        return [
            {key: tag, "word": word, "score": float(score), "start": start, "end": end}  # type: ignore[misc]
            for word, tag, score, (start, end) in zip(
                prediction.words, prediction.tags, sure, places, strict=True
            )
            if tag not in ignored
        ]
    return [
        {
            "entity_group": span.label,
            "word": text[places[span.start][0] : places[span.end - 1][1]],
            "score": float(sure[span.start : span.end].mean()),
            "start": places[span.start][0],
            "end": places[span.end - 1][1],
        }
        for span in prediction.spans
        if span.label not in ignored
    ]


def written(
    task: Task,
    prediction: Prediction,
    outputs: np.ndarray,
    given: Any,
    *,
    function: Function | None,
    top_k: int | None,
) -> list[Score] | list[Entity]:
    """Converts a prediction of any task; see `scores` and `entities`.

    Args:
        task: Task of the adapter.
        prediction: Prediction for a text.
        outputs: Head outputs.
        given: The text or words of the request.
        function: As in `scores`.
        top_k: As in `scores`.

    Returns:
        Entities for token labels, else labels with scores.
    """
    if isinstance(prediction, token_labels.Prediction):
        return entities(task, prediction, outputs, given)
    return scores(task, prediction, outputs, function=function, top_k=top_k)


def probabilities(task: Task, prediction: Any, outputs: np.ndarray, *, raw: bool = False) -> list[float]:
    """Returns the probabilities in label order, or an empty list if the task has none.

    Args:
        task: Task of the adapter.
        prediction: Prediction for a text.
        outputs: Head outputs, of shape (outputs,).
        raw: Whether to return the head outputs instead of probabilities.
    """
    if not hasattr(prediction, "probabilities"):
        return []
    if raw:
        return [float(value) for value in outputs]
    return [prediction.probabilities[label] for label in task.labels]


def described(prediction: Any) -> dict[str, Any]:
    """Returns the fields of a prediction without its probabilities, always with a `label`.

    With several labels, `label` is the most probable one. It is None if no label is predicted or
    the task has no labels.

    Args:
        prediction: Prediction for a text.
    """
    content = {key: value for key, value in prediction.to_json().items() if key != "probabilities"}
    return {"label": next(iter(content.get("labels", [])), None), **content}


def _own(task: Task) -> Function:
    return "sigmoid" if isinstance(task, multi_label.Task) else "softmax"


def _places(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the character offsets of words in a text, end exclusive."""
    found, at = [], 0
    for word in words:
        start = max(text.find(word, at), at)
        at = start + len(word)
        found.append((start, at))
    return found


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))))


_APPLIED: dict[Function, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "none": np.asarray,
}
