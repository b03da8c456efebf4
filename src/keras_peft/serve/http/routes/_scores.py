"""Predictions as `[{"label", "score"}]`, which most protocols share, and tags as Hugging Face writes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NotRequired

import numpy as np
from typing_extensions import TypedDict  # Pydantic takes the one of typing from Python 3.12 on only.

from keras_peft.tasks import Prediction, Task, multi_label, regression, token_labels
from keras_peft.tasks.token_labels import OUTSIDE

Function = Literal["softmax", "sigmoid", "none"]
# What the number of a regression is called.
VALUE = "value"


class Score(TypedDict):
    """A label and how sure it is.

    `said` is there where a score alone does not tell whether the adapter says the label: where it
    may say several, and where it is not sure enough to say any.
    """

    label: str
    score: float
    said: NotRequired[bool]


class Entity(TypedDict):
    """What is marked in a text: a group of words, or a word."""

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
    """Writes a prediction as labels with scores, the highest first.

    Args:
        task: The adapter's.
        prediction: What it says of a text; not tags.
        outputs: What its head gave (outputs,).
        function: What the scores are of the outputs; the task's own by default, calibrated.
        top_k: Most labels.
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
    """Writes tags as Hugging Face's token classification does.

    Args:
        task: The adapter's.
        prediction: Words and their tags.
        outputs: What the head gave (words, tags).
        given: The text or the words that were sent; characters of words are counted with a space
            between them.
        grouped: Whether words that are one thing are put together.
        ignored: Tags that are left out.
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
    """Writes a prediction of any task; see `scores` and `entities`."""
    if isinstance(prediction, token_labels.Prediction):
        return entities(task, prediction, outputs, given)
    return scores(task, prediction, outputs, function=function, top_k=top_k)


def probabilities(task: Task, prediction: Any, outputs: np.ndarray, *, raw: bool = False) -> list[float]:
    """Returns the numbers of the labels in their order, or none where the task has no such numbers."""
    if not hasattr(prediction, "probabilities"):
        return []
    if raw:
        return [float(value) for value in outputs]
    return [prediction.probabilities[label] for label in task.labels]


def described(prediction: Any) -> dict[str, Any]:
    """Returns what a task says without its probabilities, and `label` in any case.

    Of several labels that is the most probable; it is None where nothing is said, and where the
    task has no labels.
    """
    content = {key: value for key, value in prediction.to_json().items() if key != "probabilities"}
    return {"label": next(iter(content.get("labels", [])), None), **content}


def _own(task: Task) -> Function:
    return "sigmoid" if isinstance(task, multi_label.Task) else "softmax"


def _places(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Finds where words stand in a text, the first character and the one after the last."""
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
