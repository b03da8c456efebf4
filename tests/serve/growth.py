"""Whether memory grows with the work that is done: by its slope, since what is reserved once is no leak."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np


def growth(
    measure: Callable[[], int], work: Callable[[], object], *, warm_up: int = 3, rounds: int = 6
) -> float:
    """By how much something grows with each further round: the median, since a leak is in every one.

    Args:
        measure: What it is now, such as `resident`.
        work: A round.
        warm_up: Rounds before anything is measured.
        rounds: Rounds that are.
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
