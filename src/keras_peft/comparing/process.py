"""The process that trains, as seen from the one that compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_peft.child_process import ChildProcess, Killed
from keras_peft.comparing.jobs import Setup

DIED = "died"
# A longer log starts again.
_LONGEST_LOG = 1 << 20


class WorkerProcess(ChildProcess):
    """A running `worker.py`.

    Args:
        setup: What all its trainings share.
        log: File that what it prints is added to.

    Attributes:
        fresh: Whether it has not finished a training yet.
        rss_mb: Its memory after the last request, in MiB.
        growth_mb: The most that its memory grew with a training after the first, in MiB.
    """

    def __init__(self, setup: Setup, log: Path) -> None:
        mode = "ab+" if log.is_file() and log.stat().st_size < _LONGEST_LOG else "wb+"
        super().__init__("keras_peft.comparing.worker", log=log.open(mode))
        self.fresh = True
        self.rss_mb = self.growth_mb = 0
        self.send(setup)

    def event(self, timeout: float) -> dict[str, Any] | None:
        """Waits for the next event.

        Args:
            timeout: The longest time to wait, in seconds.

        Returns:
            The event, or None if there was none in that time. The last one says that the process has ended.
        """
        try:
            event: dict[str, Any] | None = self.receive(timeout)
        except Killed:
            return {"event": DIED}
        return event

    def remember(self, rss_mb: int | None) -> None:
        """Remembers the memory after a training.

        Args:
            rss_mb: The memory in MiB, None if unknown.
        """
        if rss_mb is not None:
            if not self.fresh:
                self.growth_mb = max(self.growth_mb, rss_mb - self.rss_mb)
            self.rss_mb = rss_mb
        self.fresh = False
