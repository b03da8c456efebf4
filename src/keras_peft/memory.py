"""Peak memory of the process, and control of how freed memory is returned to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Makes the C library reuse the memory that a training step frees instead of returning it.

    When a data set is made from a Python generator, as Keras does for a `PyDataset`, TensorFlow on
    Python 3.11 makes the C library return every block above 128 KB immediately. Each step then
    has to map its memory again, page by page, which took half of the time. Call this
    after the data set is made. Does nothing without glibc.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for parameter, value in ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, 1 << 30), (_ARENA_MAX, 1)):
            library.mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Returns freed memory to the system, before a large new allocation.

    Does nothing without glibc.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_rss_mb() -> int | None:
    """Returns the peak memory of this process in MiB, or None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (1 << 20 if sys.platform == "darwin" else 1 << 10))
