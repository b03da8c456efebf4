"""A model and tokens to logits, and logits and labels to metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_peft.batches import Rows
    from keras_peft.inference import Inference

# Rows for which tracing a model does not pay.
_FEW_ROWS = 64


@dataclass(frozen=True)
class LabelScores:
    """How well one label is told, in [0, 1]; `support` is its number of rows."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Attributes:
        rows: Number of rows.
        accuracy: Share of rows with the right label, in [0, 1].
        macro_f1: Mean of the labels' F1, in [0, 1].
        loss: Mean cross-entropy, in nats.
        labels: Scores of each label.
        confusion: Row counts, `confusion[true][predicted]`, in the order of `labels`.
    """

    rows: int
    accuracy: float
    macro_f1: float
    loss: float
    labels: dict[str, LabelScores]
    confusion: list[list[int]]

    def to_json(self) -> dict[str, Any]:
        """Returns plain dictionaries and lists."""
        return asdict(self)


def compute_logits(run: Inference, rows: Rows, *, advance: Callable[[int], None] | None = None) -> np.ndarray:
    """Runs a model over rows in inference mode, batched by length.

    Args:
        run: The model, from a batch of the rows to (batch, outputs).
        rows: At least one row.
        advance: Called with the number of rows after each batch.

    Returns:
        Float32 logits (rows, outputs) in the order of the rows.
    """
    from keras_peft.batches import inference_batches

    parts: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    for batch, inputs in inference_batches(rows):
        parts.append(np.asarray(run(inputs, once=len(rows.lengths) <= _FEW_ROWS), np.float32))
        positions.append(batch)
        if advance is not None:
            advance(len(batch))
    logits = np.concatenate(parts)
    ordered = np.empty_like(logits)
    ordered[np.concatenate(positions)] = logits
    return ordered


def score(labels: Sequence[str], truth: np.ndarray, probabilities: np.ndarray) -> Scores:
    """Scores single-label predictions.

    Args:
        labels: The labels in the order of the columns.
        truth: Number of the right label of each row, (rows,).
        probabilities: (rows, labels).

    Returns:
        The scores; a label without rows counts 0 in the macro mean only where it
        was predicted.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted = probabilities.argmax(axis=-1)
    numbers = np.arange(len(labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=numbers, zero_division=0.0
    )
    present = np.union1d(truth, predicted)
    right = probabilities[np.arange(len(truth)), truth]
    return Scores(
        rows=len(truth),
        accuracy=float((truth == predicted).mean()),
        macro_f1=float(f1[present].mean()),
        loss=float(-np.log(np.maximum(right, 1e-12)).mean()),
        labels={
            label: LabelScores(float(precision[n]), float(recall[n]), float(f1[n]), int(support[n]))
            for n, label in enumerate(labels)
        },
        confusion=confusion_matrix(truth, predicted, labels=numbers).tolist(),
    )
