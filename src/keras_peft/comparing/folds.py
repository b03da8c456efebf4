"""Corrected resampled t-test over the folds of a repeated cross-validation.

The trainings of a cross-validation share most of their rows, so the variance over the folds is too small for the
difference on other data. Nadeau and Bengio 2003, https://doi.org/10.1023/A:1024068626366, section 3, replace its
factor 1/J by 1/J + n_test/n_train.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from keras_peft.comparing.statistics import LEVEL, Difference, Estimate, Evidence

Fold = tuple[int, int]
"""The seed and the number of a fold."""


class CorrectedFolds(Evidence):
    """Compares candidates that were scored on the same folds.

    Args:
        scores: For each candidate the metric on each fold.
        test_share: Rows of a fold, as a fraction of the rows that its training used.

    Example:
        >>> evidence = CorrectedFolds({"lora": {(0, 0): 0.9, (0, 1): 0.8}, "ia3": {(0, 0): 0.7, (0, 1): 0.7}}, 1.0)
        >>> evidence.difference("lora", "ia3").value
        0.15
    """

    def __init__(self, scores: Mapping[str, Mapping[Fold, float]], test_share: float) -> None:
        self.names = tuple(scores)
        self._scores = scores
        self._share = test_share

    def estimate(self, name: str) -> Estimate:
        """Returns the mean of the folds; see `Evidence.estimate`."""
        own = list(self._scores[name].values())
        value, error = mean_and_error(own, self._share)
        low, high = _interval(value, error, len(own) - 1)
        return Estimate(value, max(low, min(value, 0.0)), min(high, 1.0))

    def difference(self, one: str, other: str) -> Difference:
        """Returns the mean difference on the folds that both have; see `Evidence.difference`."""
        own = self._differences(one, other)
        value, error = mean_and_error(own, self._share)
        low, high = _interval(value, error, len(own) - 1)
        # Folds that all differ by the same amount do not show how much they could differ.
        p = min(1.0, 2 * _tail(abs(value) / error, len(own) - 1)) if error and math.isfinite(error) else 1.0
        return Difference(value, low, high, p, error)

    def p_of_more(self, one: str, other: str, margin: float) -> float:
        """Returns the p-value of the corrected t-test; see `Evidence.p_of_more`."""
        own = self._differences(one, other)
        value, error = mean_and_error(own, self._share)
        return _tail((value - margin) / error, len(own) - 1) if error and math.isfinite(error) else 1.0

    def _differences(self, one: str, other: str) -> list[float]:
        """Returns the differences on the folds that both have."""
        first, second = self._scores[one], self._scores[other]
        return [first[fold] - second[fold] for fold in first if fold in second]


def mean_and_error(values: Sequence[float], test_share: float) -> tuple[float, float]:
    """Returns the mean over the folds, and its corrected standard error.

    Args:
        values: One value for each fold.
        test_share: Rows of a fold, as a fraction of the rows that its training used.

    Returns:
        The mean and its standard error, which is infinite for fewer than two values.
    """
    count = len(values)
    if not count:
        return 0.0, math.inf
    mean = math.fsum(values) / count
    if count == 1:
        return mean, math.inf
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, math.sqrt((1 / count + test_share) * variance)


def _interval(value: float, error: float, freedom: int) -> tuple[float, float]:
    if not math.isfinite(error):
        return -math.inf, math.inf
    from scipy.stats import t

    width = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    return value - width, value + width


def _tail(deviations: float, freedom: int) -> float:
    """Returns the probability of a larger value of Student's t."""
    from scipy.stats import t

    return float(t.sf(deviations, freedom))
