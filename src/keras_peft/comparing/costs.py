"""Predicts how long a training takes, from those that were measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable


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
