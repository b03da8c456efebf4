"""Estimates, differences and their correction for many comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

LEVEL = 0.95
"""Level of the intervals; a difference is shown if its corrected p-value is below 1 minus the level."""
POWER = 0.8
"""Probability with which a difference is to be found, for the number of rows needed."""
_MOST_ROWS = 10**9


@dataclass(frozen=True)
class Estimate:
    """A quality with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much one quality is above another.

    Attributes:
        value: The observed difference.
        low: Lower limit of the 95% interval, not corrected for the number of comparisons.
        high: Upper limit.
        p: Two-sided p-value, not corrected either.
        error: Standard error of the difference from the rows alone, which shrinks with more rows.
        seed_error: Its standard error from the seeds alone, which shrinks with more seeds.
    """

    value: float
    low: float
    high: float
    p: float
    error: float
    seed_error: float


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for their number: Holm 1979, https://www.jstor.org/stable/4615733.

    If those below 0.05 afterwards are taken for real, the probability of any false one among them is at most 0.05.

    Args:
        p_values: The p-values.

    Returns:
        The corrected p-values, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def rows_needed(error: float, rows: int, difference: float, comparisons: int = 1) -> int:
    """Estimates how many rows it takes to find a difference in four of five cases.

    Args:
        error: Standard error of a difference on the rows there are.
        rows: Number of these rows.
        difference: The difference to find.
        comparisons: Number of comparisons that the p-values are corrected for.
    """
    return math.ceil(min(rows * (least_found(error, comparisons) / difference) ** 2, _MOST_ROWS))


def least_found(error: float, comparisons: int = 1) -> float:
    """Returns the difference that is found in four of five cases.

    Args:
        error: Standard error of the difference.
        comparisons: Number of comparisons that the p-values are corrected for.
    """
    normal = NormalDist()
    return error * (normal.inv_cdf(1 - (1 - LEVEL) / 2 / comparisons) + normal.inv_cdf(POWER))
