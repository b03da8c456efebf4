"""Verification of an adapter after import or export, on a fixed set of texts."""

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
    from keras_peft.core.method import Method
    from keras_peft.core.placement import Placement
    from keras_peft.sources import Base

# Short and long texts, so that padding is tested too.
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
    """Returns the verification texts for a kind of input.

    Args:
        rows: Kind of input: single texts, pairs of texts or lists of words.
    """
    if isinstance(rows, WordInput):
        return tuple(tuple(sentence.split()) for sentence in _SENTENCES)
    if len(rows.columns) == 1:
        return _SENTENCES
    following = (*_SENTENCES[1:], _SENTENCES[0])
    return tuple(zip(_SENTENCES, following, strict=True))


def outputs_on(model: AdaptedModel, encoder: Encoder, texts: Sequence[Text]) -> Any:
    """Returns a model's outputs on texts, as `compute_outputs` does."""
    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.outputs import compute_outputs

    tokens = encoder(texts)
    return compute_outputs(Inference(model, tokens.signature), tokens)


def check_same(outputs: np.ndarray, expected: np.ndarray, *, unit: float = 1.0) -> float:
    """Checks that exported files give the same outputs as the bundle.

    Args:
        outputs: Outputs of the exported files, read back.
        expected: Outputs of the bundle.
        unit: Scale of the outputs. For regression it is the standard deviation, which is folded into them.

    Returns:
        The largest absolute difference.

    Raises:
        BundleError: If the difference exceeds the tolerance.
    """
    from keras_peft.runtime.outputs import difference

    largest, allowed = difference(outputs, expected), TOLERANCE * max(1.0, unit)
    if not largest <= allowed:
        raise BundleError(
            f"Nothing was exported: when read back, the logits differ by {largest:.2e}, more than {allowed:.0e}."
        )
    return largest


def folded_outputs(outputs: np.ndarray, task: Task) -> np.ndarray:
    """Converts a head's outputs to those of the head with its task folded in.

    Args:
        outputs: Outputs of the unchanged head, with the outputs on the last axis.
        task: Task of the head.
    """
    # Outputs are transformed in the same way as the kernel of the last layer.
    factored, added = task.to_plain(outputs, np.zeros(task.outputs, np.float32))
    return np.asarray(factored + added)


def compared_on(
    base: Base,
    read: Bundle,
    methods: Sequence[Method | Placement],
    tensors: Mapping[str, np.ndarray],
    expected: np.ndarray,
) -> float:
    """Checks that an exported adapter gives the same outputs as its bundle.

    Args:
        base: A freshly loaded base model. It is adapted in place.
        read: The bundle.
        methods: Methods that were read back, with their selections.
        tensors: Tensors that were read back, including the head's.
        expected: Outputs of the bundle on the verification texts.

    Returns:
        The largest absolute difference.

    Raises:
        BundleError: If the difference exceeds the tolerance.
    """
    from keras_peft import attach

    task = read.task()
    model = attach.adapt(base.encoder, methods, head=task.head(base.dim), pooling=task.pooling)
    model.assign_adapter_tensors(dict(tensors))
    outputs = outputs_on(model, read.encoder(), verifying_texts(read.input))
    if task.labels:
        return check_same(outputs, expected)
    # For regression, the mean and standard deviation were folded in.
    return check_same(outputs, folded_outputs(expected, task), unit=getattr(task, "deviation", 1.0))
