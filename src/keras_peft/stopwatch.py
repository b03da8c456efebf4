"""Timing of the stages of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Measures stages in seconds; the time of a nested stage counts for that stage only."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._inner = [0.0]

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time spent in the block to a stage."""
        begun = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - begun
            own = whole - self._inner.pop()
            self._inner[-1] += whole
            self._seconds[stage] = self._seconds.get(stage, 0.0) + own

    def count(self, stage: str, seconds: float) -> None:
        """Assigns seconds that have just passed to a stage instead of the one being measured."""
        self._inner[-1] += seconds
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def read(self) -> dict[str, float]:
        """Returns the seconds per stage and in total so far, rounded to milliseconds."""
        seconds = {**self._seconds, "total": time.perf_counter() - self._started}
        return {stage: round(value, 3) for stage, value in seconds.items()}
