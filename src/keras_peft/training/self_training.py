"""Self-training: the surest answers for texts without labels become labels with a lower weight.

Lee 2013, "Pseudo-Label", and Yarowsky 1995, https://doi.org/10.3115/981658.981684. For each answer, the
surest half is taken, so that frequent and easy labels do not crowd out the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_peft.tasks import Task

# Chosen by experiment: docs/internals/decisions/0015-self-training.md.
WEIGHT = 0.3
"""Weight of a text with a pseudo-label, relative to one with a label."""
SHARE = 0.5
"""Share of the answers of each label that become pseudo-labels."""


@dataclass(frozen=True)
class PseudoLabels:
    """Answers for texts without labels that are sure enough to be trained on.

    Attributes:
        texts: Indices of the texts, (n,), ascending.
        targets: Their targets, (n, …).
        confidence: The confidence in each, (n,) from 0 to 1.
    """

    texts: np.ndarray
    targets: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class WeightedRows:
    """Indices of texts to train on, with targets and weights.

    Attributes:
        texts: Indices of the texts, (n,), ascending.
        targets: Their targets, (n, …).
        weights: Their weights, (n,) float32; None if they are equal.
    """

    texts: np.ndarray
    targets: Any
    weights: np.ndarray | None

    @classmethod
    def of(cls, texts: np.ndarray, targets: Any) -> WeightedRows:
        """Returns labelled texts, which all have the same weight.

        Args:
            texts: Indices of the texts, ascending.
            targets: Their targets.
        """
        return cls(texts, targets, None)

    def joined(self, pseudo: PseudoLabels) -> WeightedRows:
        """Adds texts with pseudo-labels.

        Args:
            pseudo: The pseudo-labels; the indices of their texts follow those of the labelled ones.
        """
        weights = np.full(len(self.texts) + len(pseudo.texts), WEIGHT, np.float32)
        weights[: len(self.texts)] = 1
        return WeightedRows(
            np.concatenate([self.texts, pseudo.texts]),
            np.concatenate([self.targets, pseudo.targets]),
            weights,
        )


def surest(task: Task, outputs: Any, *, first: int = 0) -> PseudoLabels:
    """Selects the surest half of the answers of each label.

    Args:
        task: The task.
        outputs: Outputs of the head on the texts without labels.
        first: Index of the first of these texts.

    Returns:
        The pseudo-labels.

    Raises:
        OptionError: If the task has no confidence.
    """
    targets, confidence, groups = task.answers(outputs)
    chosen = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order = members[np.argsort(-confidence[members], kind="stable")]
        chosen.append(order[: max(1, round(SHARE * len(members)))])
    texts = np.sort(np.concatenate(chosen))
    return PseudoLabels(texts + first, targets[texts], confidence[texts])


def described(task: Task, pseudo: PseudoLabels, *, unlabelled: int) -> dict[str, Any]:
    """Describes pseudo-labels for the report: how many, how sure, and which share of each label.

    Args:
        task: The task.
        pseudo: The pseudo-labels.
        unlabelled: Number of texts without labels.
    """
    counts: Sequence[float] = task.label_counts(pseudo.targets)
    total = max(sum(counts), 1)
    return {
        "unlabelled_rows": unlabelled,
        "used_rows": len(pseudo.texts),
        "weight": WEIGHT,
        "least_confidence": float(pseudo.confidence.min()),
        "mean_confidence": float(pseudo.confidence.mean()),
        "labels": {label: count / total for label, count in zip(task.labels, counts, strict=True)},
    }
