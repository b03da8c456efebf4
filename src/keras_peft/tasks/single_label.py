"""One label for each text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from keras_peft.errors import DataError, listed
from keras_peft.inputs.input import Text
from keras_peft.tasks import _linear, _task
from keras_peft.tasks._pooled import PooledTask
from keras_peft.tasks._scores import Scores, by_label, calibration_error, confusion, reliability, shares

if TYPE_CHECKING:
    import keras

# Standard deviation of the prior on the logarithm of the temperature.
_DEVIATION = 0.5
# Beyond these, probabilities are 0 and 1, or all the same.
_TEMPERATURES = (1e-6, 1e6)


@dataclass(frozen=True)
class Prediction:
    """Prediction for one text.

    Attributes:
        label: The most probable label, or None if the task abstains.
        probabilities: Probability of every label, most probable first; they sum to 1.
    """

    label: str | None
    probabilities: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns `{"label": …, "probabilities": {label: p, …}}`."""
        return {"label": self.label, "probabilities": self.probabilities}

    def cells(self) -> dict[str, Any]:
        """Returns the label, its probability and the probabilities of all labels."""
        ordered = {f"probability.{label}": self.probabilities[label] for label in sorted(self.probabilities)}
        return {"label": self.label, "probability": max(self.probabilities.values()), **ordered}

    def summary(self) -> tuple[str, str, str]:
        """Returns the label, its probability, and the next two labels."""
        first, *others = [f"{label} {probability:.3f}" for label, probability in self.probabilities.items()]
        if self.label is None:
            return "(none)", "", ", ".join([first, *others[:2]])
        return self.label, f"{self.probabilities[self.label]:.3f}", ", ".join(others[:2])


@dataclass(frozen=True)
class Task(PooledTask):
    """Predicts one of several labels.

    Args:
        labels: Labels, in the order of the head's outputs.
        temperature: Value that divides the outputs before the softmax.
        abstain_below: Minimum probability of an answer; None to always answer.
    """

    name: ClassVar[str] = "single-label"
    problem_type: ClassVar[str | None] = "single_label_classification"

    temperature: float = 1.0
    abstain_below: float | None = None

    @classmethod
    def contradict(cls, labels: Collection[str]) -> bool:
        return len(set(labels)) > 1

    @classmethod
    def check_abstains(cls) -> None:
        """Does nothing: the task abstains if no label is probable enough."""

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Self:
        return cls(tuple(sorted(set(labels))))

    @classmethod
    def problems_with(cls, labels: Sequence[str], config: Mapping[str, Any]) -> list[str]:
        problems = super().problems_with(labels, config)
        temperature, below = config.get("temperature", 1.0), config.get("abstain_below")
        if not _task.is_number(temperature, *_TEMPERATURES):
            problems.append(
                f"The temperature is a number from {_TEMPERATURES[0]:g} to {_TEMPERATURES[1]:g}; got "
                f"{_task.quoted(temperature)}."
            )
        if below is not None and not _task.is_number(below, 0, 1):
            problems.append(
                f"The threshold to abstain below is a probability from 0 to 1, or null; got {_task.quoted(below)}."
            )
        return problems

    @classmethod
    def check(cls, labels: Sequence[str], numbers: Sequence[int], source: str) -> None:
        counts = Counter(labels)
        if len(counts) == 1:
            raise DataError(
                f"{source}: all {len(labels)} rows have the label {labels[0]!r}; a classifier needs at least two "
                "labels."
            )
        if single := [label for label, count in counts.items() if count == 1]:
            where = listed(f"{label!r} (row {numbers[labels.index(label)]})" for label in single)
            raise DataError(
                f"{source}: seen only once: {where}; each label needs at least two different texts, one for "
                "training and one for validation. Add more texts, or remove the label."
            )

    def to_plain(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Divides by the temperature, so that a plain softmax gives probabilities; see `Task.to_plain`."""
        return kernel / np.float32(self.temperature), bias / np.float32(self.temperature)

    def plain(self) -> Self:
        """Returns the task without its temperature; see `Task.plain`."""
        return replace(self, temperature=1.0)

    def loss(self, label_smoothing: float = 0.0) -> keras.Loss:
        """Returns the softmax cross-entropy; see `Task.loss`."""
        import keras
        from keras import ops

        labels = len(self.labels)

        class CrossEntropy(keras.losses.Loss):
            def call(self, truth: Any, logits: Any) -> Any:
                targets = ops.one_hot(ops.cast(ops.reshape(truth, (-1,)), "int32"), labels)
                return keras.losses.categorical_crossentropy(
                    targets, logits, from_logits=True, label_smoothing=label_smoothing
                )

        return CrossEntropy(name="cross_entropy")

    def targets(self, labels: Sequence[str]) -> np.ndarray:
        """Converts labels to int32 indices, (rows,)."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        return np.fromiter((numbers[label] for label in labels), np.int32, len(labels))

    def linear_solution(self, vectors: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fits a multinomial logistic regression; see `Task.linear_solution`."""
        return _linear.logistic(vectors, targets, len(self.labels))

    def weights(self, targets: np.ndarray) -> np.ndarray:
        counts = np.maximum(np.bincount(targets, minlength=len(self.labels)), 1)
        return np.asarray(len(targets) / np.count_nonzero(np.bincount(targets)) / counts[targets], np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Converts logits (rows, labels) to probabilities of the same shape with a softmax."""
        logits = logits.astype(np.float64) / self.temperature
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))

    def constant(self, labels: Sequence[str], targets: np.ndarray) -> tuple[str, np.ndarray]:
        answer = Counter(labels).most_common(1)[0][0]
        return answer, np.tile(
            np.array([label == answer for label in self.labels], np.float32), (len(targets), 1)
        )

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Scores:
        """Computes the metrics of logits (rows, labels) against label indices (rows,).

        The macro mean includes a label without rows only if it was predicted; its F1 is then 0.
        """
        probabilities = self.probabilities(outputs)
        predicted = probabilities.argmax(axis=-1)
        labels = by_label(self.labels, targets, predicted)
        present = [self.labels[number] for number in np.union1d(targets, predicted)]
        right = probabilities[np.arange(len(targets)), targets]
        bins = reliability(probabilities.max(axis=-1), targets == predicted)
        said = probabilities.max(axis=-1) >= (self.abstain_below or 0)
        answered = {
            "coverage": float(said.mean()),
            "precision_of_answers": float((targets == predicted)[said].mean()) if said.any() else 0.0,
        }
        return Scores(
            rows=len(targets),
            loss=float(-np.log(np.maximum(right, 1e-12)).mean()),
            metrics={
                "accuracy": float((targets == predicted).mean()),
                "macro_f1": float(np.mean([labels[label].f1 for label in present])),
                "calibration_error": calibration_error(bins),
                **({} if self.abstain_below is None else answered),
            },
            labels=labels,
            confusion=confusion(targets, predicted, len(self.labels)),
            reliability=bins,
        )

    def counts(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns for each row whether it is right, and 1; see `Task.counts`."""
        right = self.probabilities(outputs).argmax(axis=-1) == targets
        return np.stack([right, np.ones(len(right))], axis=1)

    def from_counts(self, sums: np.ndarray) -> np.ndarray:
        """Computes the accuracy; see `Task.from_counts`."""
        return shares(sums[..., 0], sums[..., 1])

    def calibrated(self, outputs: np.ndarray, targets: np.ndarray) -> Self:
        """Returns the task with the temperature that fits some rows best.

        The temperature minimises their cross-entropy: Guo et al. 2017,
        https://arxiv.org/abs/1706.04599, section 4.2. A prior keeps it close to 1 if there are few rows,
        which may all be right by chance.
        """
        from scipy.optimize import minimize_scalar

        def loss(logarithm: float) -> float:
            scaled = replace(self, temperature=float(np.exp(logarithm)))
            right = scaled.probabilities(outputs)[np.arange(len(targets)), targets]
            prior = (logarithm / _DEVIATION) ** 2 / 2
            return float(prior - np.log(np.maximum(right, 1e-12)).sum())

        found = minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded")
        return replace(self, temperature=float(np.exp(found.x)))

    def abstaining(self, outputs: np.ndarray, targets: np.ndarray, precision: float) -> Self:
        """Returns the task with the lowest threshold whose answers reach the target precision.

        Args:
            outputs: Logits on validation rows, (rows, labels).
            targets: Label indices of the rows, (rows,).
            precision: Target precision of the answers that are given.

        Raises:
            DataError: If no threshold reaches the precision on these rows.
        """
        probabilities = self.probabilities(outputs)
        order = np.argsort(-probabilities.max(axis=-1), kind="stable")
        confidence = probabilities.max(axis=-1)[order]
        right = np.cumsum((probabilities.argmax(axis=-1) == targets)[order])
        shares = right / np.arange(1, len(order) + 1)
        # Rows with the same probability are answered together.
        last = np.append(confidence[:-1] > confidence[1:], True)
        enough = np.flatnonzero(last & (shares >= precision))
        if not len(enough):
            raise DataError(
                f"No threshold reaches a precision of {precision:g} on the {len(order)} validation rows; the highest "
                f"precision is {shares[last].max():.3f}."
            )
        return replace(self, abstain_below=float(confidence[enough[-1]]))

    @classmethod
    def check_confident(cls) -> None:
        """Does nothing: the probability of the answer is the confidence."""

    def answers(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the most probable labels, their probabilities, and the labels as groups; see `Task.answers`."""
        probabilities = self.probabilities(outputs)
        targets = probabilities.argmax(axis=-1).astype(np.int32)
        return targets, probabilities.max(axis=-1), targets

    def uncertainty(self, outputs: np.ndarray) -> np.ndarray:
        """Returns 1 minus the difference between the two highest probabilities; see `Task.uncertainty`."""
        highest = np.sort(self.probabilities(outputs), axis=-1)[:, -2:]
        return np.asarray(1 - (highest[:, 1] - highest[:, 0]))

    def label_counts(self, targets: np.ndarray) -> list[int]:
        return [int(count) for count in np.bincount(targets, minlength=len(self.labels))]

    def agreement(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the probability of each row's label, (rows,)."""
        return np.asarray(self.probabilities(outputs)[np.arange(len(targets)), targets])

    def is_right(self, prediction: Prediction, label: str) -> bool:
        return next(iter(prediction.probabilities)) == label

    def doubtful(
        self, outputs: np.ndarray, examples: _task.Examples, *, most: int = 10
    ) -> list[dict[str, str]]:
        """Lists the rows whose most probable label has the lowest probability; see `worst`."""
        order = np.argsort(self.probabilities(outputs).max(axis=-1), kind="stable")[:most]
        texts = [examples.texts[row] for row in order]
        said = self.predictions(outputs[order], texts)
        labels = (examples.labels[row] for row in order)
        return [self.shown(*one) for one in zip(said, texts, labels, strict=True)]

    def predictions(self, outputs: np.ndarray, texts: Sequence[Text]) -> list[Prediction]:
        return [self._prediction(row) for row in self.probabilities(outputs)]

    def _prediction(self, row: np.ndarray) -> Prediction:
        order = np.argsort(-row, kind="stable")
        is_said = self.abstain_below is None or row[order[0]] >= self.abstain_below
        return Prediction(
            label=self.labels[order[0]] if is_said else None,
            probabilities={self.labels[n]: float(row[n]) for n in order},
        )
