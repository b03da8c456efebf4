"""Evaluation metrics shared by all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_BINS = 10
# The confusion matrix of 5,000 labels would take 276 MB of a report.
_MOST_LABELS = 500


@dataclass(frozen=True)
class LabelScores:
    """Scores of one label, in [0, 1]; `support` is its number of true occurrences."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Bin:
    """Answers within a range of confidence: their number, mean confidence and accuracy."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """Evaluation results.

    Attributes:
        rows: Number of rows.
        loss: Training loss without label smoothing; in nats for labels.
        metrics: Metrics by name; the first is the main one.
        labels: Scores of each label.
        confusion: Row counts, `confusion[true][predicted]`, in the order of `labels`; empty if the task
            has no confusion matrix, or more than 500 labels.
        reliability: Accuracy of the answers by range of confidence; empty if the task has no confidence.
        interval: 95% confidence interval of the main metric, if it was computed.
    """

    rows: int
    loss: float
    metrics: dict[str, float]
    labels: dict[str, LabelScores] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    reliability: list[Bin] = field(default_factory=list)
    interval: tuple[float, float] | None = None

    @property
    def main(self) -> float:
        """The main metric."""
        return next(iter(self.metrics.values()))

    def to_json(self) -> dict[str, Any]:
        """Returns plain dicts and lists, with the metrics at the top level as well."""
        content = asdict(self)
        return {"rows": content.pop("rows"), **content["metrics"], **content}


_CORRELATIONS = {"pearson": "Pearson's r", "spearman": "Spearman's rho"}


def metric_name(key: str) -> str:
    """Formats the key of a metric for display: "macro_f1" becomes "macro-F1", "pearson" becomes "Pearson's r"."""
    return _CORRELATIONS.get(key) or key.replace("_f1", "-F1").replace("r2", "R²").replace("_", " ")


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Groups answers into ten ranges of confidence, without the empty ones.

    Args:
        confidence: Probability of each answer, (rows,).
        right: Whether each answer is right, (rows,) bool.
    """
    import numpy as np

    edges = np.linspace(0, 1, _BINS + 1)
    places = np.clip(np.digitize(confidence, edges) - 1, 0, _BINS - 1)
    return [
        Bin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            rows=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            accuracy=float(right[inside].mean()),
        )
        for place in range(_BINS)
        for inside in [places == place]
        if inside.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Computes the expected calibration error: the mean difference between confidence and accuracy.

    The mean is taken over the answers. Guo et al. 2017, https://arxiv.org/abs/1706.04599,
    equation 3, with ten ranges.
    """
    rows = sum(one.rows for one in bins)
    return sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / max(rows, 1)


def by_label(labels: Sequence[str], truth: np.ndarray, predicted: np.ndarray) -> dict[str, LabelScores]:
    """Computes the scores of each label.

    Args:
        labels: The labels.
        truth: Indices of the right labels, (rows,), or indicators of them, (rows, labels).
        predicted: Predicted labels, in the same form.
    """
    import numpy as np

    if truth.ndim == 1:
        both, said, true = (
            np.bincount(each.astype(np.int64), minlength=len(labels))
            for each in (truth[truth == predicted], predicted, truth)
        )
    else:
        truth, predicted = truth.astype(bool), predicted.astype(bool)
        both, said, true = ((each).sum(axis=0) for each in (truth & predicted, predicted, truth))
    return {
        label: LabelScores(_share(b, s), _share(b, t), _share(2 * b, s + t), int(t))
        for label, b, s, t in zip(labels, both, said, true, strict=True)
    }


def confusion(truth: np.ndarray, predicted: np.ndarray, labels: int) -> list[list[int]]:
    """Counts the rows for each right and each predicted label.

    Args:
        truth: Indices of the right labels, (rows,).
        predicted: Indices of the predicted labels, (rows,).
        labels: Number of labels.

    Returns:
        Row counts, `[true][predicted]`; empty if there are more than 500 labels.
    """
    import numpy as np

    if labels > _MOST_LABELS:
        return []
    counts = np.bincount(truth.astype(np.int64) * labels + predicted, minlength=labels**2)
    return [[int(count) for count in row] for row in counts.reshape(labels, labels)]


def f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Computes the F1 of all labels of all rows together.

    Args:
        predicted: Predicted labels as ones and zeros, (rows, labels).
        truth: The right labels in the same form.
    """
    return float(f1_of_matches(matches(predicted, truth).sum(axis=0)))


def shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Divides counts; nothing of nothing is 0.

    Args:
        parts: Counts, of any shape.
        wholes: Counts of the same shape.
    """
    import numpy as np

    return np.asarray(np.divide(parts, wholes, out=np.zeros(np.shape(wholes)), where=wholes > 0))


def matches(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts what an F1 is computed from in each row; see `f1_of_matches`.

    Args:
        predicted: Predicted labels as ones and zeros, (rows, labels).
        truth: The right labels in the same form.

    Returns:
        The predicted and right, the wrongly predicted, and the missed labels of each row, (rows, 3) float64.
    """
    import numpy as np

    said, true = predicted.astype(bool), truth.astype(bool)
    return np.stack([(said & true).sum(1), (said & ~true).sum(1), (true & ~said).sum(1)], 1).astype(float)


def f1_of_matches(sums: np.ndarray) -> np.ndarray:
    """Computes the F1 from sums of `matches`.

    Args:
        sums: The sums, (…, 3).
    """
    both = 2 * sums[..., 0]
    return shares(both, both + sums[..., 1] + sums[..., 2])


def _share(part: int, whole: int) -> float:
    """Divides counts; nothing of nothing is 0."""
    return float(part / whole) if whole else 0.0
