"""Texts that an adapter is tried on after it was carried over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.bundle.verifying import TOLERANCE
from keras_peft.errors import BundleError
from keras_peft.inputs.encoder import Encoder
from keras_peft.inputs.input import Input, Text
from keras_peft.inputs.words import WordInput
from keras_peft.tasks import Task

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.core.adapter import Placement
    from keras_peft.core.method import Method
    from keras_peft.sources import Base

# As many tokens as short and long messages have, so that padding is tried too.
_SENTENCES = (
    "Which of the two is faster?",
    "The train was late again, so we walked along the river and talked about the new bridge.",
    "No.",
    "A small team published its results this morning; by noon three others had repeated the measurements, and one "
    "of them found a mistake in the second table.",
    "Please send the invoice to the address below before the end of the month!",
    "12 people, 3 cars and 1 dog: that is not going to work.",
)


def verifying_texts(rows: Input) -> tuple[Text, ...]:
    """Returns some rows.

    Args:
        rows: What each is.
    """
    if isinstance(rows, WordInput):
        return tuple(tuple(sentence.split()) for sentence in _SENTENCES)
    if len(rows.columns) == 1:
        return _SENTENCES
    following = (*_SENTENCES[1:], _SENTENCES[0])
    return tuple(zip(_SENTENCES, following, strict=True))


def outputs_on(model: AdaptedModel, encoder: Encoder, texts: Sequence[Text]) -> Any:
    """Returns what a model says of texts, as `compute_outputs` does."""
    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.outputs import compute_outputs

    tokens = encoder(texts)
    return compute_outputs(Inference(model, tokens.signature), tokens)


def check_same(outputs: np.ndarray, expected: np.ndarray, *, unit: float = 1.0) -> float:
    """Returns how far what was read again is from the bundle.

    Args:
        outputs: What it says, read again.
        expected: What the bundle says.
        unit: How much of an output is one of the bundle's: the deviation, where it is folded in.

    Raises:
        BundleError: If that is too far.
    """
    from keras_peft.runtime.outputs import difference

    largest, allowed = difference(outputs, expected), TOLERANCE * max(1.0, unit)
    if not largest <= allowed:
        raise BundleError(
            f"Nothing was exported: read again, the logits differ by {largest:.2e}, more than {allowed:.0e}."
        )
    return largest


def folded_outputs(outputs: np.ndarray, task: Task) -> np.ndarray:
    """Returns what a head gives with its task folded in, from what it gives without."""
    # The rows of outputs are turned as those of the last layer's weights are.
    factored, added = task.to_plain(outputs, np.zeros(task.outputs, np.float32))
    return np.asarray(factored + added)


def compared_on(
    base: Base,
    read: Bundle,
    methods: Sequence[Method | Placement],
    tensors: Mapping[str, np.ndarray],
    expected: np.ndarray,
) -> float:
    """Returns how far an adapter that was written and read again is from its bundle.

    Args:
        base: A fresh base; it is adapted.
        read: The bundle.
        methods: Those that were read again, with their selections.
        tensors: The adapter's that were read again, the head's included.
        expected: What the bundle says of the verifying texts.

    Raises:
        BundleError: If it is too far.
    """
    from keras_peft import attach

    task = read.task()
    model = attach.adapt(base.encoder, methods, head=task.head(base.dim))
    model.assign_adapter_tensors(dict(tensors))
    outputs = outputs_on(model, read.encoder(), verifying_texts(read.input))
    if task.labels:
        return check_same(outputs, expected)
    # The deviation of a number was folded in.
    return check_same(outputs, folded_outputs(expected, task), unit=getattr(task, "deviation", 1.0))
