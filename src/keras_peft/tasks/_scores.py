"""How good predictions are, the same for all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_BINS = 10


@dataclass(frozen=True)
class LabelScores:
    """How well one label is told, in [0, 1]; `support` is its number of rows."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Bin:
    """Answers whose probability lies in one range: how many, how sure on average, what share is right."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Attributes:
        rows: Number of rows.
        loss: What the training lowers, without smoothing: in nats for labels.
        metrics: The figures by name; the first is the one to look at.
        labels: Scores of each label.
        confusion: Row counts, `confusion[true][predicted]`, in the order of `labels`;
            empty where it means nothing.
        reliability: How often the answers of like probability are right; empty where they
            have none.
    """

    rows: int
    loss: float
    metrics: dict[str, float]
    labels: dict[str, LabelScores] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    reliability: list[Bin] = field(default_factory=list)

    @property
    def main(self) -> float:
        """The figure to look at."""
        return next(iter(self.metrics.values()))

    def to_json(self) -> dict[str, Any]:
        """Returns plain dictionaries and lists, with the figures beside the rest."""
        content = asdict(self)
        return {"rows": content.pop("rows"), **content["metrics"], **content}


def metric_name(key: str) -> str:
    """Writes a figure's key as people do: "macro_f1" is "macro-F1"."""
    return key.replace("_f1", "-F1").replace("r2", "R²").replace("_", " ")


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Parts answers into ten ranges of their probability; those without answers are left out.

    Args:
        confidence: Probability of each answer (rows,).
        right: Whether it is right (rows,).
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
    """Returns how far probabilities are from the share of right answers, on average over the answers.

    The expected calibration error: Guo et al. 2017, https://arxiv.org/abs/1706.04599,
    equation 3, with ten ranges.
    """
    rows = sum(one.rows for one in bins)
    return sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / max(rows, 1)


def by_label(labels: Sequence[str], truth: np.ndarray, predicted: np.ndarray) -> dict[str, LabelScores]:
    """Scores each label.

    Args:
        labels: The labels.
        truth: Numbers of the right labels (rows,), or which labels are right (rows, labels).
        predicted: The same of the predicted ones.
    """
    import numpy as np
    from sklearn.metrics import precision_recall_fscore_support

    scores = precision_recall_fscore_support(
        truth, predicted, labels=np.arange(len(labels)), average=None, zero_division=0.0
    )
    return {
        label: LabelScores(float(precision), float(recall), float(f1), int(support))
        for label, precision, recall, f1, support in zip(labels, *scores, strict=True)
    }
