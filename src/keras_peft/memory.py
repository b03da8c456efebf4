"""What memory the process had at most, and how it is given back to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

# Of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Lets the C library reuse what a training step frees rather than give it back at once.

    TensorFlow makes it give back every block above 128 KB as soon as a data set is made
    from a Python generator, on Python 3.11, as Keras does for a `PyDataset`. Each step then gets
    its memory anew, page by page, which took half of the time. So this is called
    after the data set is made. Elsewhere than with glibc nothing happens.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for parameter, value in ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, 1 << 30), (_ARENA_MAX, 1)):
            library.mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Gives the system what was freed and kept, before something large is made anew.

    Elsewhere than with glibc nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_rss_mb() -> int | None:
    """Returns the most memory that this process has had, in MiB, or None where unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (1 << 20 if sys.platform == "darwin" else 1 << 10))
