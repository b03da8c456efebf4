"""Limits on the memory of a process, and its peak."""

from __future__ import annotations

import resource
from pathlib import Path

MIB = 1 << 20
# The memory that a case may take: twice what the largest bomb unpacks to, since a reader may keep one copy.
MOST_MIB = 1024
# A process may reserve more than it uses.
_ADDRESSES = 4096 * MIB
_STATUS = Path("/proc/self/status")


def limit_memory() -> None:
    """Limits the address space to what the process has now and some gibibytes more."""
    most = memory("VmSize") * MIB + _ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (int(most), int(most)))
    # No core files of processes that abort.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def memory(field: str) -> float:
    """Returns a figure of the process's memory in MiB; 0 where the system does not tell.

    Args:
        field: A field of /proc/self/status: `VmRSS`, the memory now, `VmHWM`, its peak, or `VmSize`, the addresses.
    """
    if not _STATUS.is_file():
        return 0.0
    lines = _STATUS.read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0.0)


def forget_peak() -> None:
    """Makes `memory("VmHWM")` the peak from now on."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
