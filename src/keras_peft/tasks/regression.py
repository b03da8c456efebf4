"""A number for each text."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from keras_peft.errors import DataError
from keras_peft.inputs.input import Text
from keras_peft.tasks import _linear, _task
from keras_peft.tasks._pooled import PooledTask
from keras_peft.tasks._scores import Scores

if TYPE_CHECKING:
    import keras

# Number of quantile ranges that a split is stratified by.
_RANGES = 10
# The squares of numbers up to this size, and their sums, stay finite.
_LARGEST = 1e100
# A variance computed from moments has an error of this fraction of the mean square.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Prediction:
    """Prediction for one text: `value`, in the units of the data."""

    value: float

    def to_json(self) -> dict[str, Any]:
        """Returns `{"value": …}`."""
        return {"value": self.value}

    def cells(self) -> dict[str, Any]:
        """Returns the value."""
        return {"value": self.value}

    def summary(self) -> tuple[str, str, str]:
        """Returns the value, without a confidence or alternatives."""
        return f"{self.value:.3f}", "", ""


@dataclass(frozen=True)
class Task(PooledTask):
    """Predicts a number.

    Args:
        labels: Empty.
        mean: Mean of the training numbers.
        deviation: Standard deviation of the training numbers. The head predicts the distance from the
            mean in this unit.
    """

    name: ClassVar[str] = "regression"
    problem_type: ClassVar[str | None] = "regression"

    labels: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def read_number(cls, value: Any) -> float | None:
        """Reads a number, or returns None if the value is not a number.

        Args:
            value: A number, or a string that contains one.
        """
        if isinstance(value, bool):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        return number if math.isfinite(number) and abs(number) <= _LARGEST else None

    @classmethod
    def from_labels(cls, labels: Sequence[float]) -> Self:
        numbers = _array(labels)
        return cls((), float(np.mean(numbers)), float(np.std(numbers)))

    @classmethod
    def problems_with(cls, labels: Sequence[str], config: Mapping[str, Any]) -> list[str]:
        problems = super().problems_with(labels, config)
        mean, deviation = config.get("mean", 0.0), config.get("deviation", 1.0)
        if labels:
            problems.append(f"Numbers have no labels; got {len(labels)}.")
        if not _task.is_number(mean, -_LARGEST, _LARGEST):
            problems.append(f"The mean is a number of at most {_LARGEST:g}; got {_task.quoted(mean)}.")
        if not (_task.is_number(deviation, 0, _LARGEST) and deviation > 0):
            problems.append(
                f"The deviation is a number above 0 and at most {_LARGEST:g}; got {_task.quoted(deviation)}."
            )
        return problems

    @classmethod
    def check(cls, labels: Sequence[float], numbers: Sequence[int], source: str) -> None:
        if len(labels) < 2 or not np.std(_array(labels)) > 0:
            raise DataError(
                f"{source}: all {len(labels)} rows have the same number; expected at least two different numbers."
            )

    @classmethod
    def strata(cls, labels: Sequence[float]) -> list[Hashable]:
        """Returns the decile of each number."""
        numbers = _array(labels)
        edges = np.quantile(numbers, np.linspace(0, 1, _RANGES + 1)[1:-1])
        return list(np.searchsorted(edges, numbers).tolist())

    def unknown(self, labels: Iterable[float]) -> list[str]:
        return []

    @property
    def outputs(self) -> int:
        return 1

    def from_plain(
        self, kernel: np.ndarray, bias: np.ndarray, labels: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Converts outputs from numbers to deviations from the mean; see `Task.from_plain`."""
        scale = np.float32(1 / self.deviation)
        return kernel * scale, (bias - np.float32(self.mean)) * scale

    def to_plain(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Converts outputs from deviations from the mean to numbers; see `Task.to_plain`."""
        scale = np.float32(self.deviation)
        return kernel * scale, bias * scale + np.float32(self.mean)

    def plain(self) -> Self:
        """Returns the task with outputs in the unit of the numbers; see `Task.plain`."""
        return replace(self, mean=0.0, deviation=1.0)

    def label_smoothing(self, asked: float) -> float:
        """Returns 0, because there are no labels to spread a target over."""
        return 0.0

    def loss(self, label_smoothing: float = 0.0) -> keras.Loss:
        """Returns the mean squared error, in squared standard deviations."""
        import keras
        from keras import ops

        class SquaredError(keras.losses.Loss):
            def call(self, truth: Any, outputs: Any) -> Any:
                return ops.square(ops.reshape(outputs, (-1,)) - ops.reshape(truth, (-1,)))

        return SquaredError(name="squared_error")

    def targets(self, labels: Sequence[float]) -> np.ndarray:
        """Converts numbers to standard deviations from the mean, (rows,) float32."""
        return np.asarray((_array(labels) - self.mean) / self.deviation, np.float32)

    def linear_solution(self, vectors: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fits a ridge regression; see `Task.linear_solution`."""
        return _linear.ridge(vectors, targets)

    def values(self, outputs: np.ndarray) -> np.ndarray:
        """Converts standard deviations from the mean to numbers, (rows,) float64."""
        return np.asarray(np.reshape(outputs, -1).astype(np.float64) * self.deviation + self.mean)

    def constant(self, labels: Sequence[float], targets: np.ndarray) -> tuple[str, np.ndarray]:
        return f"the mean, {self.mean:.4g}", np.zeros((len(targets), 1), np.float32)

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Scores:
        """Computes the metrics of outputs (rows, 1) against standard deviations from the mean, (rows,).

        The correlations are set to 0 if either side is constant, because they are not defined then.
        """
        said, truth = self.values(outputs), self.values(targets)
        error = said - truth
        spread = float(((truth - truth.mean()) ** 2).sum())
        return Scores(
            rows=len(truth),
            loss=float((error**2).mean() / self.deviation**2),
            metrics={
                "pearson": _correlation(said, truth),
                "spearman": _correlation(_ranks(said), _ranks(truth)),
                "mean_absolute_error": float(np.abs(error).mean()),
                "root_mean_squared_error": float(np.sqrt((error**2).mean())),
                "r2": 1 - float((error**2).sum()) / spread if spread else 0.0,
            },
        )

    def counts(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the moments of each row, 1, x, y, x², y² and xy, for Pearson's correlation; see `Task.counts`.

        x is the predicted and y the right number, in the unit of the data: rows of several folds, whose tasks have
        different means and deviations, can be added.
        """
        said, truth = self.values(outputs), self.values(targets)
        return np.stack([np.ones(len(said)), said, truth, said**2, truth**2, said * truth], axis=1)

    def from_counts(self, sums: np.ndarray) -> np.ndarray:
        """Computes Pearson's correlation, 0 if either side is constant; see `Task.from_counts`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y, xx, yy, xy = (sums[..., n] / sums[..., 0] for n in range(1, 6))
            one, other = xx - x**2, yy - y**2
            # What remains of the variance of a constant is rounding.
            varies = (one > _ROUNDING * xx) & (other > _ROUNDING * yy)
            return np.where(varies, np.clip((xy - x * y) / np.sqrt(one) / np.sqrt(other), -1, 1), 0.0)

    def agreement(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the negative absolute error of each row, (rows,)."""
        return np.asarray(-np.abs(self.values(outputs) - self.values(targets)))

    def is_right(self, prediction: Prediction, label: float) -> bool:
        return prediction.value == label

    def predictions(self, outputs: np.ndarray, texts: Sequence[Text]) -> list[Prediction]:
        return [Prediction(float(value)) for value in self.values(outputs)]


def _array(labels: Sequence[float]) -> np.ndarray:
    return np.fromiter(labels, np.float64, len(labels))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns the ranks of values from 1; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places])
