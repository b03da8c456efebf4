"""Detects memory leaks by growth per round, since memory that is reserved once is not a leak."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np


def growth(
    measure: Callable[[], int], work: Callable[[], object], *, warm_up: int = 3, rounds: int = 6
) -> float:
    """Returns the median growth per round, since a leak grows in every round.

    Args:
        measure: Returns the current value, such as `resident`.
        work: Runs one round.
        warm_up: Rounds before the measurement.
        rounds: Measured rounds.
    """
    for _ in range(warm_up):
        work()
    found = [measure()]
    for _ in range(rounds):
        work()
        found.append(measure())
    return float(np.median(np.diff(found)))


def resident() -> int:
    """The memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
