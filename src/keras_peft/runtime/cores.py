"""The processor cores that this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Returns the number of processor cores that this process may use.

    `OMP_NUM_THREADS`, by which Ray and others limit the threads of a process, limits it too.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(cores, max(1, int(limit))) if limit.isdecimal() else cores
