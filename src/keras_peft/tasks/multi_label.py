"""Any number of labels for each text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from keras_peft.errors import DataError, listed
from keras_peft.inputs.input import Text
from keras_peft.tasks import _linear, _task
from keras_peft.tasks._pooled import PooledTask
from keras_peft.tasks._scores import Scores, by_label, f1, f1_of_matches, matches

if TYPE_CHECKING:
    import keras

# Joins labels in a table cell, and what a reader could take for a separator or a list.
_SEPARATOR, _AMBIGUOUS = "|", re.compile(r"[|;,#]|^[\[{(]")
# A label with this many rows weighs its own threshold and the common one equally.
_PRIOR_ROWS = 20


@dataclass(frozen=True)
class Prediction:
    """Prediction for one text.

    Attributes:
        labels: Labels whose probability reaches their threshold, most probable first.
        probabilities: Independent probability of every label, most probable first.
    """

    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns `{"labels": […], "probabilities": {label: p, …}}`."""
        return {"labels": list(self.labels), "probabilities": self.probabilities}

    def cells(self) -> dict[str, Any]:
        """Returns the labels and the probabilities of all labels.

        The labels are joined by "|", or form a JSON list if a label contains what could be a separator.
        """
        joined = _SEPARATOR.join(self.labels)
        if any(map(_AMBIGUOUS.search, self.probabilities)):
            joined = json.dumps(list(self.labels), ensure_ascii=False)
        ordered = {f"probability.{label}": self.probabilities[label] for label in sorted(self.probabilities)}
        return {"labels": joined, **ordered}

    def summary(self) -> tuple[str, str, str]:
        """Returns the labels, their probabilities, and the next two labels."""
        others = [label for label in self.probabilities if label not in self.labels]
        after = ", ".join(f"{label} {self.probabilities[label]:.3f}" for label in others[:2])
        sure = ", ".join(f"{self.probabilities[label]:.3f}" for label in self.labels)
        return ", ".join(self.labels) or "none", sure, after


@dataclass(frozen=True)
class Task(PooledTask):
    """Predicts for each of several labels whether it applies.

    Args:
        labels: Labels, in the order of the head's outputs.
        thresholds: Probability of each label from which it is predicted; 0.5 for all labels if empty.
    """

    name: ClassVar[str] = "multi-label"
    problem_type: ClassVar[str | None] = "multi_label_classification"
    label_column: ClassVar[str] = "labels"

    thresholds: tuple[float, ...] = ()

    @classmethod
    def from_labels(cls, labels: Sequence[tuple[str, ...]]) -> Self:
        return cls(tuple(sorted({one for row in labels for one in row})))

    @classmethod
    def problems_with(cls, labels: Sequence[str], config: Mapping[str, Any]) -> list[str]:
        problems = super().problems_with(labels, config)
        thresholds = config.get("thresholds", ())
        if not isinstance(thresholds, list | tuple) or not all(
            _task.is_number(one, 0, 1) for one in thresholds
        ):
            problems.append(
                f"The thresholds are a list of probabilities from 0 to 1; got {_task.quoted(thresholds)}."
            )
        elif thresholds and len(thresholds) != len(labels):
            problems.append(f"There are {len(thresholds)} thresholds for {len(labels)} labels.")
        return problems

    @classmethod
    def check(cls, labels: Sequence[tuple[str, ...]], numbers: Sequence[int], source: str) -> None:
        counts = Counter(one for row in labels for one in row)
        if not counts:
            raise DataError(f"{source}: no row has a label; expected labels in at least two rows.")
        if single := [label for label, count in counts.items() if count == 1]:
            where = listed(
                f"{label!r} (row {next(n for n, row in zip(numbers, labels, strict=True) if label in row)})"
                for label in single
            )
            raise DataError(
                f"{source}: seen only once: {where}; each label needs at least two different texts, one for "
                "training and one for validation. Add more texts, or remove the label."
            )

    @classmethod
    def strata(cls, labels: Sequence[tuple[str, ...]]) -> list[Hashable]:
        """Returns the rarest label of each row, so that rare labels occur on both sides of a split."""
        counts = Counter(one for row in labels for one in row)
        return [min(row, key=lambda label: (counts[label], label), default=None) for row in labels]

    def unknown(self, labels: Iterable[tuple[str, ...]]) -> list[str]:
        return super().unknown(one for row in labels for one in row)

    def loss(self, label_smoothing: float = 0.0) -> keras.Loss:
        """Returns the binary cross-entropy, summed over the labels; see `Task.loss`."""
        import keras
        from keras import ops

        class BinaryCrossEntropies(keras.losses.Loss):
            def call(self, truth: Any, logits: Any) -> Any:
                targets = truth * (1 - label_smoothing) + label_smoothing / 2
                # log(1 + e^x) - t x, which cannot overflow.
                return ops.sum(ops.softplus(logits) - targets * logits, axis=-1)

        return BinaryCrossEntropies(name="binary_cross_entropies")

    def targets(self, labels: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Converts labels to float32 ones and zeros, (rows, labels)."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        targets = np.zeros((len(labels), len(self.labels)), np.float32)
        for row, own in enumerate(labels):
            targets[row, [numbers[label] for label in own]] = 1
        return targets

    def linear_solution(self, vectors: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fits a logistic regression for each label; see `Task.linear_solution`."""
        return _linear.independent_logistic(vectors, targets)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Converts logits (rows, labels) to independent probabilities of the same shape."""
        return np.asarray(1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -500, 500))))

    def said(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns which labels reach their threshold, (rows, labels) bool."""
        return np.asarray(probabilities >= np.array(self.thresholds or (0.5,) * len(self.labels)))

    def constant(self, labels: Sequence[tuple[str, ...]], targets: np.ndarray) -> tuple[str, np.ndarray]:
        answer = Counter(one for row in labels for one in row).most_common(1)[0][0]
        row = np.array([10.0 if label == answer else -10.0 for label in self.labels], np.float32)
        return answer, np.tile(row, (len(targets), 1))

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Scores:
        """Computes the metrics of logits (rows, labels) against ones and zeros of that shape."""
        probabilities = self.probabilities(outputs)
        said = self.said(probabilities)
        labels = by_label(self.labels, targets, said)
        present = targets.any(axis=0) | said.any(axis=0)
        each = [labels[self.labels[number]].f1 for number in np.flatnonzero(present)]
        right = np.where(targets == 1, probabilities, 1 - probabilities)
        return Scores(
            rows=len(targets),
            loss=float(-np.log(np.maximum(right, 1e-12)).sum(axis=-1).mean()),
            metrics={
                "micro_f1": f1(said, targets),
                "macro_f1": float(np.mean(each)) if each else 0.0,
                "exact": float((said == targets.astype(bool)).all(axis=-1).mean()),
            },
            labels=labels,
        )

    def counts(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the right, the wrong and the missed labels of each row; see `Task.counts`."""
        return matches(self.said(self.probabilities(outputs)), targets)

    def from_counts(self, sums: np.ndarray) -> np.ndarray:
        """Computes the micro-F1; see `Task.from_counts`."""
        return f1_of_matches(sums)

    def calibrated(self, outputs: np.ndarray, targets: np.ndarray) -> Self:
        """Returns the task with the thresholds that give the best F1 on some rows.

        A common threshold is found first, by micro-F1, then one for each label. The fewer rows a label has,
        the closer its threshold is to the common one.
        """
        probabilities = self.probabilities(outputs)
        common = _best_threshold(probabilities.ravel(), targets.ravel())
        thresholds = []
        for column, truth in zip(probabilities.T, targets.T, strict=True):
            share = truth.sum() / (truth.sum() + _PRIOR_ROWS)
            own = _best_threshold(column, truth) if truth.any() else common
            thresholds.append(round(float(share * own + (1 - share) * common), 6))
        return replace(self, thresholds=tuple(thresholds))

    @classmethod
    def check_confident(cls) -> None:
        """Does nothing: the probabilities of the decisions are the confidence."""

    def answers(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the predicted labels and the geometric mean of the decisions' probabilities; see `Task.answers`.

        The groups are the most probable labels.
        """
        probabilities = self.probabilities(outputs)
        targets = self.said(probabilities).astype(np.float32)
        return targets, self.agreement(outputs, targets), probabilities.argmax(axis=-1)

    def uncertainty(self, outputs: np.ndarray) -> np.ndarray:
        """Returns how close the least certain label is to a probability of one half; see `Task.uncertainty`."""
        return np.asarray((1 - np.abs(2 * self.probabilities(outputs) - 1)).max(axis=-1))

    def label_counts(self, targets: np.ndarray) -> list[int]:
        return [int(count) for count in targets.sum(axis=0)]

    def agreement(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the geometric mean of the probabilities of each row's right decisions, (rows,)."""
        probabilities = self.probabilities(outputs)
        right = np.where(targets == 1, probabilities, 1 - probabilities)
        return np.asarray(np.exp(np.log(np.maximum(right, 1e-12)).mean(axis=-1)))

    def is_right(self, prediction: Prediction, label: tuple[str, ...]) -> bool:
        return set(prediction.labels) == set(label)

    def predictions(self, outputs: np.ndarray, texts: Sequence[Text]) -> list[Prediction]:
        probabilities = self.probabilities(outputs)
        found = []
        for row, said in zip(probabilities, self.said(probabilities), strict=True):
            order = np.argsort(-row, kind="stable")
            found.append(
                Prediction(
                    labels=tuple(self.labels[n] for n in order if said[n]),
                    probabilities={self.labels[n]: float(row[n]) for n in order},
                )
            )
        return found


def _best_threshold(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Finds the threshold with the best F1, halfway between the two neighbouring probabilities."""
    order = np.argsort(-probabilities, kind="stable")
    sorted_values, hits = probabilities[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    # A threshold cannot separate rows with the same probability.
    last = np.append(sorted_values[:-1] > sorted_values[1:], True)
    best = int(np.argmax(np.where(last, f1, -1)))
    after = sorted_values[best + 1] if best + 1 < len(order) else 0.0
    return float((sorted_values[best] + after) / 2)
