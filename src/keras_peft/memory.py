"""Peak and limit of the process's memory, and control of how freed memory is returned to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# Of both thresholds.
_DEFAULT = 128 << 10


def keep_freed_memory() -> None:
    """Makes the C library reuse the memory that a training step frees instead of returning it.

    When a data set is made from a Python generator, as Keras does for a `PyDataset`, TensorFlow on
    Python 3.11 makes the C library return every block above 128 KB immediately. Each step then
    has to map its memory again, page by page, which took half of the time. Call this
    after the data set is made. Does nothing without glibc.
    """
    _set((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, 1 << 30), (_ARENA_MAX, 1))


def stop_keeping_freed_memory() -> None:
    """Undoes `keep_freed_memory`, and returns freed memory to the system.

    Otherwise a large array that is read once, such as the weights of a base, leaves a gap that nothing fills. Call this
    when the training is over. Does nothing without glibc.
    """
    _set((_MMAP_THRESHOLD, _DEFAULT), (_TRIM_THRESHOLD, _DEFAULT))
    give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Returns freed memory to the system, before a large new allocation.

    Does nothing without glibc.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _set(*parameters: tuple[int, int]) -> None:
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for parameter, value in parameters:
            library.mallopt(parameter, value)


def peak_rss_mb() -> int | None:
    """Returns the peak memory of this process in MiB, or None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (1 << 20 if sys.platform == "darwin" else 1 << 10))


def rss_mb() -> int | None:
    """Returns the memory of this process in MiB, or None if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):  # Not Linux.
        return peak_rss_mb()
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def reset_peak() -> None:
    """Makes `peak_since_reset_mb` measure from now on. Does nothing except on Linux."""
    with suppress(OSError):
        _CLEAR.write_text("5")  # Resets the high-water mark alone; see proc_pid_clear_refs(5).


def peak_since_reset_mb() -> int | None:
    """Returns the peak memory of this process since `reset_peak` in MiB; since its start except on Linux."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) >> 10
    return peak_rss_mb()


def limit_bytes(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Returns the memory that this process may use, or None if unknown.

    That is the lowest limit of its control groups, which Docker, Kubernetes and systemd set, or
    else the memory of the machine.

    Args:
        groups: Folder of the control groups.
        own: File with the control groups of this process.
    """
    limits = []
    with suppress(OSError, ValueError, AttributeError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError):
        # The folder that is mounted in a container may begin below the root of the names.
        paths = [Path(line.partition("::")[2]) for line in own.read_text().splitlines() if "::" in line]
        folders = [groups / one.relative_to("/") for path in paths for one in (path, *path.parents)]
        files = [folder / "memory.max" for folder in folders]
        for file in [*files, groups / "memory" / "memory.limit_in_bytes"]:  # Version 2, and version 1.
            with suppress(OSError, ValueError):  # "max" is not a number.
                limits.append(int(file.read_text()))
    return min(limits, default=None)
