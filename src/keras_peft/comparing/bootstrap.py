"""Paired bootstrap over the test rows, on the mean of each candidate's seeds.

All candidates are scored on the same resampled rows: Efron 1979, https://doi.org/10.1214/aos/1176344552; for
comparisons Koehn 2004, https://aclanthology.org/W04-3250.

The rows do not show how much a whole training depends on its seed. The seeds do: where their scores differ more than
the rows explain, a random effect of the seed is added to every resample. Without it, a method appears to be better
than itself in up to a third of the cases (tests/comparing/test_bootstrap.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from keras_peft.comparing.statistics import LEVEL, Difference, Estimate
from keras_peft.tasks import wilson

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 20_000
# The smallest p-value is one over the resamples, and is multiplied by the number of pairs.
_RESAMPLES_PER_PAIR = 60
_MOST_RESAMPLES = 200_000
# More rows are first added up at random in so many groups, which has nearly the same variance.
_MOST_UNITS = 5_000
_CHUNK = 2_000_000
# The fraction of candidates whose seeds differ most, and do not count for the others.
_UNSTABLE = 0.1
# A candidate's own seeds count for its effect of the seed as much as so many degrees of freedom of all.
_PRIOR = 2
_ROUNDING = 1e-12


class RowBootstrap:
    """Compares candidates that were scored on the same test rows.

    Args:
        counts: For each candidate and each of its seeds the counts of the rows, (rows, counts); see `Task.counts`.
        metric: Computes the metric from sums of counts; see `Task.from_counts`.
        widening: Factor of the standard errors; see `widening_of_folds`.
        resamples: Number of resamples. By default it suffices for the correction for all pairs.
        seed: Seed of the resampling.

    Attributes:
        names: Names of the candidates.
        rows: Number of rows.

    Example:
        >>> evidence = RowBootstrap({"lora": [a, b, c], "ia3": [d, e, f]}, task.from_counts)
        >>> evidence.difference("lora", "ia3").p
        0.0412
    """

    def __init__(
        self,
        counts: Mapping[str, Sequence[np.ndarray]],
        metric: Callable[[np.ndarray], np.ndarray],
        *,
        widening: float = 1.0,
        resamples: int | None = None,
        seed: int = 0,
    ) -> None:
        import numpy as np

        self.names = tuple(counts)
        self.rows = len(next(iter(counts.values()))[0])
        pairs = len(self.names) * (len(self.names) - 1) // 2
        wanted = min(max(RESAMPLES, _RESAMPLES_PER_PAIR * pairs), _MOST_RESAMPLES)
        generator = np.random.default_rng(seed)
        seeds = [len(counts[name]) for name in self.names]
        stacked = np.concatenate([np.asarray(one, float) for name in self.names for one in counts[name]], 1)
        scored = _Scored(_grouped(stacked, generator), metric, np.cumsum([0, *seeds]))
        self._observed = scored.observed
        resampled, within = scored.resampled(resamples or wanted, generator)
        # Correlations may be negative; widening must not make other metrics so.
        self._lowest = -1.0 if min(resampled.min(), self._observed.min()) < 0 else 0.0
        self._resampled = self._observed + widening * (resampled - self._observed)
        self._effects = _seed_effects(scored.by_seed, within)
        self._noisy = self._resampled + self._effects * _noise(seeds, self._resampled.shape, generator)

    def estimate(self, name: str) -> Estimate:
        """Returns the quality of a candidate: the mean of its seeds, with percentiles over the resamples.

        Args:
            name: Name of the candidate.
        """
        import numpy as np

        place = self.names.index(name)
        value = float(self._observed[place])
        low, high = np.quantile(self._noisy[:, place], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        if high - low < _ROUNDING and 0 <= value <= 1:  # All rows are right, or all are wrong.
            return Estimate(value, *wilson(value, self.rows))
        return Estimate(value, float(max(low, self._lowest)), float(min(high, 1.0)))

    def difference(self, one: str, other: str) -> Difference:
        """Returns how much one candidate is above another on the same rows.

        Args:
            one: Name of a candidate.
            other: Name of another.
        """
        import numpy as np

        value, resampled = self._difference(one, other)
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        first, second = self.names.index(one), self.names.index(other)
        error = float((self._resampled[:, first] - self._resampled[:, second]).std())
        # The distribution around the observed difference, moved to 0, is that of no difference.
        p = _share(np.abs(resampled - value) >= abs(value) - _ROUNDING)
        seed_error = float(np.hypot(self._effects[first], self._effects[second]))
        return Difference(value, float(low), float(high), p, error, seed_error)

    def p_of_more(self, one: str, other: str, margin: float) -> float:
        """Returns the one-sided p-value of one candidate being above another by more than a margin.

        Args:
            one: Name of a candidate.
            other: Name of another.
            margin: The margin.
        """
        value, resampled = self._difference(one, other)
        return _share(resampled - value >= value - margin - _ROUNDING)

    def _difference(self, one: str, other: str) -> tuple[float, np.ndarray]:
        """Returns the observed difference, and that of each resample."""
        first, second = self.names.index(one), self.names.index(other)
        value = float(self._observed[first] - self._observed[second])
        return value, self._noisy[:, first] - self._noisy[:, second]


def widening_of_folds(folds: int, test_share: float) -> float:
    """Returns the factor by which the standard errors of a cross-validation are too small.

    Args:
        folds: Number of folds.
        test_share: Rows of a fold, as a fraction of the rows that its training uses.

    Example:
        >>> widening_of_folds(5, 1 / 4)
        1.5
    """
    return math.sqrt((1 / folds + test_share) / (1 / folds))


class _Scored:
    """Rows with the counts of all candidates and seeds next to each other."""

    def __init__(
        self, stacked: np.ndarray, metric: Callable[[np.ndarray], np.ndarray], ends: np.ndarray
    ) -> None:
        self.stacked, self._metric, self._ends = stacked, metric, ends
        per_seed = self._scores(stacked.sum(axis=0, keepdims=True))[0]
        self.by_seed = [per_seed[start:end] for start, end in self._spans()]
        self.observed = self._means(per_seed[None])[0]

    def resampled(self, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean of the seeds in each resample, and the variance between the seeds due to rows.

        Args:
            count: Number of resamples.
            generator: Source of randomness.

        Returns:
            The means, (resamples, candidates), and the variances, (candidates,).
        """
        import numpy as np

        means, squares = [], np.zeros(int(self._ends[-1]))
        for weights in _weights(count, len(self.stacked), generator):
            scores = self._scores(weights @ self.stacked)
            means.append(self._means(scores))
            apart = np.concatenate(
                [scores[:, start:end] - means[-1][:, [n]] for n, (start, end) in enumerate(self._spans())], 1
            )
            # How far the seeds move from their observed distance from each other.
            centre = np.concatenate([one - one.mean() for one in self.by_seed])
            squares = squares + ((apart - centre) ** 2).sum(axis=0)
        totals = np.array([np.sum(squares[start:end]) for start, end in self._spans()]) / count
        return np.concatenate(means), totals / np.maximum(np.diff(self._ends) - 1, 1)

    def _scores(self, sums: np.ndarray) -> np.ndarray:
        """Computes the metric of each seed, (…, all seeds)."""
        scores: np.ndarray = self._metric(sums.reshape(len(sums), int(self._ends[-1]), -1))
        return scores

    def _means(self, scores: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.stack([scores[:, start:end].mean(axis=1) for start, end in self._spans()], 1)

    def _spans(self) -> list[tuple[int, int]]:
        ends = self._ends.tolist()
        return list(pairwise(ends))


def _grouped(stacked: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Adds rows up in groups if there are very many."""
    import numpy as np

    if len(stacked) <= _MOST_UNITS:
        return stacked
    order = generator.permutation(len(stacked))
    starts = np.arange(_MOST_UNITS) * len(stacked) // _MOST_UNITS
    return np.asarray(np.add.reduceat(stacked[order], starts, axis=0))


def _weights(count: int, rows: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Draws how often each row is in each resample, in parts of limited size."""
    import numpy as np

    most = max(1, _CHUNK // rows)
    for start in range(0, count, most):
        own = min(most, count - start)
        drawn = generator.integers(0, rows, (own, rows)) + rows * np.arange(own)[:, None]
        yield np.bincount(drawn.ravel(), minlength=own * rows).reshape(own, rows).astype(float)


def _seed_effects(by_seed: Sequence[np.ndarray], within: np.ndarray) -> np.ndarray:
    """Estimates the standard deviation of each candidate's mean that is due to the seeds and not to the rows.

    Args:
        by_seed: The metric of each seed, for each candidate.
        within: Variance between the seeds of a candidate that the rows explain, (candidates,).
    """
    import numpy as np

    seeds = np.array([len(one) for one in by_seed])
    spread = np.array([one.var(ddof=1) if len(one) > 1 else 0.0 for one in by_seed])
    # Seeds make no difference to a candidate whose seeds agree in every row, such as a regression.
    varies = (seeds > 1) & ((spread > _ROUNDING) | (within > _ROUNDING))
    if not varies.any():
        return np.zeros(len(by_seed))
    own, freedom = spread - within, seeds - 1
    stable = np.flatnonzero(varies)[np.argsort(own[varies])]
    stable = stable[: len(stable) - int(_UNSTABLE * len(stable))]
    common = np.average(own[stable], weights=freedom[stable])
    mixed = (_PRIOR * common + np.where(varies, freedom * own, 0)) / (_PRIOR + np.where(varies, freedom, 0))
    mixed = np.where((seeds > 1) & ~varies, 0.0, mixed)
    return np.asarray(np.sqrt(np.maximum(mixed, 0) / seeds))


def _noise(seeds: Sequence[int], shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Draws effects of the seed; the fewer seeds estimate their size, the heavier the tails."""
    freedom = sum(count - 1 for count in seeds)
    import numpy as np

    return np.asarray(generator.standard_t(freedom, shape) if freedom else generator.standard_normal(shape))


def _share(cases: np.ndarray) -> float:
    """Returns the p-value of some cases among resamples, which is never 0: Davison and Hinkley 1997, equation 4.11."""
    return float((1 + cases.sum()) / (1 + len(cases)))
