"""Confidence intervals of metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_peft.tasks._scores import Scores

_LEVEL = 0.95
# The standard normal distribution has this share of its mass within so many standard deviations.
_DEVIATIONS = NormalDist().inv_cdf((1 + _LEVEL) / 2)
_SAMPLES = 200
# With more rows, the interval is narrow and takes long to compute.
_MOST_ROWS = 2000


def interval(
    score: Callable[[Any, Any], Scores], outputs: Any, targets: Any, scores: Scores
) -> tuple[float, float] | None:
    """Computes the 95% confidence interval of the main metric.

    That of an accuracy is Wilson's (1927, https://doi.org/10.1080/01621459.1927.10502953), which also
    holds near 0 and 1. Others are percentiles of the metric over resampled rows: Efron 1979,
    https://doi.org/10.1214/aos/1176344552.

    Args:
        score: Computes the scores of outputs and targets.
        outputs: Outputs of the head.
        targets: Targets of the rows.
        scores: The scores of these outputs.

    Returns:
        The lower and upper limit, or None if the interval is not computed: there are fewer than two rows,
        or so many that it would take long.
    """
    import numpy as np

    rows = scores.rows
    if rows < 2:
        return None
    if next(iter(scores.metrics)) == "accuracy" and isinstance(outputs, np.ndarray):
        return wilson(scores.main, rows)
    if rows > _MOST_ROWS:
        return None
    generator = np.random.default_rng(0)
    values = []
    for _ in range(_SAMPLES):
        sample = generator.integers(0, rows, rows)
        if isinstance(outputs, np.ndarray):
            values.append(score(outputs[sample], targets[sample]).main)
        else:
            values.append(score([outputs[i] for i in sample], [targets[i] for i in sample]).main)
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def wilson(share: float, rows: int) -> tuple[float, float]:
    """Returns the 95% interval of a share of some rows.

    Args:
        share: The share, from 0 to 1.
        rows: Number of rows.
    """
    square = _DEVIATIONS**2
    middle = share + square / (2 * rows)
    width = _DEVIATIONS * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    low, high = ((middle + way * width) / (1 + square / rows) for way in (-1, 1))
    return (0.0 if share == 0 else max(0.0, low)), (1.0 if share == 1 else min(1.0, high))
