"""Bayesian comparison of each method with another one over several data sets.

The signed-rank test of Benavoli et al. 2017, https://jmlr.org/papers/v18/16-305.html, with the library of its authors,
https://baycomp.readthedocs.io. It gives the probability that a method is better, worse, or equal in practice: different
by so little that it does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

EQUAL = 0.01
"""A difference of accuracies up to which two methods are equal in practice."""
_FEWEST_SETS = 2
_SAMPLES, _SEED = 20_000, 0


@dataclass(frozen=True)
class Comparison:
    """How a method compares with another one.

    Attributes:
        sets: Number of data sets that have both.
        difference: Mean difference of the scores; above 0 if the method is better.
        better: Probability that the method is better by more than `EQUAL`.
        equal: Probability that the difference is at most `EQUAL`.
        worse: Probability that it is worse by more than `EQUAL`.
    """

    sets: int
    difference: float
    better: float
    equal: float
    worse: float


def compared_with(scores: Mapping[str, Mapping[str, float]], other: str) -> dict[str, Comparison]:
    """Compares every method with another one on the data sets that have both.

    Args:
        scores: Score of each method by data set, `scores[data][method]`; data sets may lack methods.
        other: Name of the method to compare with.

    Returns:
        The comparison of each method that at least two data sets have, from the highest to the lowest mean difference.

    Example:
        >>> compared_with({"x": {"a": 0.9, "b": 0.8}, "y": {"a": 0.8, "b": 0.7}}, "b")["a"].difference
        0.1
    """
    own = [one for one in scores.values() if other in one]
    names = dict.fromkeys(name for one in own for name in one if name != other)
    found = {}
    for name in names:
        pairs = [(one[name], one[other]) for one in own if name in one]
        if len(pairs) >= _FEWEST_SETS:
            found[name] = _compared(np.array(pairs, float))
    return dict(sorted(found.items(), key=lambda item: -item[1].difference))


def _compared(pairs: np.ndarray) -> Comparison:
    """Compares the scores in the first column with those in the second, (data sets, 2)."""
    import baycomp

    first, second = pairs.T
    better, equal, worse = baycomp.SignedRankTest.probs(
        first, second, rope=EQUAL, nsamples=_SAMPLES, random_state=_SEED
    )
    return Comparison(len(pairs), fmean((first - second).tolist()), float(better), float(equal), float(worse))
