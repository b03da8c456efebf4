"""Predicts how long a training takes, from those that were measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable

# A forecast from less of a training would depend on its first steps.
_LEAST_SHARE = 0.1


class Costs:
    """The durations of trainings, measured and predicted.

    A training takes a constant time, and a time in proportion to its work.

    Args:
        work: Returns the work of a candidate; see `candidates.work`.
    """

    def __init__(self, work: Callable[[str], float]) -> None:
        self._work = work
        self._measured: dict[str, list[float]] = defaultdict(list)

    def measured(self, name: str, seconds: float) -> None:
        """Remembers the duration of a training.

        Args:
            name: Name of the candidate.
            seconds: Its duration, without what a new process needs once.
        """
        self._measured[name].append(seconds)

    def predict(self, name: str) -> float | None:
        """Predicts the duration of a training in seconds; None if no training was measured.

        Args:
            name: Name of the candidate.
        """
        if own := self._measured.get(name):
            return max(own)
        if not self._measured:
            return None
        means = [(self._work(one), statistics.mean(found)) for one, found in self._measured.items()]
        constant = min(seconds for _, seconds in means)
        slopes = [(seconds - constant) / work for work, seconds in means if work and seconds > constant]
        # Nothing is known of a block's time before one was trained; it takes about as long as all the rest.
        slope = max(slopes) if slopes else constant / 2
        return constant + slope * self._work(name)


class Pace:
    """Forecasts the duration of a training from its steps.

    The time before the first step is not extrapolated: imports, the frozen blocks, and tracing.

    Args:
        began: Time at which the training began, in seconds.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._first: tuple[float, float] | None = None
        self._last = (0.0, began)

    def step(self, share: float, *, at: float) -> None:
        """Remembers how far the training is.

        Args:
            share: Share of the steps that are done.
            at: The time, in seconds.
        """
        self._last = (share, at)
        if share and self._first is None:
            self._first = self._last

    @property
    def share(self) -> float:
        """Share of the steps that are done."""
        return self._last[0]

    def whole(self) -> float | None:
        """Forecasts the duration in seconds; None before enough steps are done."""
        if self._first is None or self._last[0] - self._first[0] < _LEAST_SHARE:
            return None
        (share, since), (done, at) = self._first, self._last
        return since - self._began + (at - since) / (done - share) * (1 - share)
