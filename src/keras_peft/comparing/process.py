"""The process that trains, as seen from the one that compares."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from keras_peft.comparing.jobs import Cancel, Final, Job, Setup

DIED = "died"
# Seconds that the process has to end by itself.
_PATIENCE = 5
# A longer log starts again.
_LONGEST_LOG = 1 << 20


class WorkerProcess:
    """A running `worker.py`.

    Args:
        setup: What all its trainings share.
        log: File that its stderr is added to.

    Attributes:
        fresh: Whether it has not finished a training yet.
        rss_mb: Its memory after the last request, in MiB.
        growth_mb: The most that its memory grew with a training after the first, in MiB.
    """

    def __init__(self, setup: Setup, log: Path) -> None:
        self.fresh = True
        self.rss_mb = self.growth_mb = 0
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        mode = "ab" if log.is_file() and log.stat().st_size < _LONGEST_LOG else "wb"
        with log.open(mode) as said:
            # In a session of its own, so that an interrupt in the terminal reaches only the parent.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "keras_peft.comparing.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=_environment(),
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(setup)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def send(self, request: Setup | Job | Final | Cancel) -> None:
        """Sends a request; a process that has died says so with its next event."""
        if self._process.stdin is not None:
            with suppress(OSError):
                pickle.dump(request, self._process.stdin)
                self._process.stdin.flush()

    def event(self, timeout: float) -> dict[str, Any] | None:
        """Waits for the next event.

        Args:
            timeout: The longest time to wait, in seconds.

        Returns:
            The event, or None if there was none in that time.
        """
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

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

    def close(self) -> None:
        """Ends the process, by force if it does not end by itself, and frees its pipes."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def kill(self) -> None:
        """Ends the process by force, and frees its pipes."""
        self._process.kill()
        self.close()

    def _read(self) -> None:
        """Collects the events until the process ends."""
        stream = self._process.stdout
        if stream is not None:
            with stream:
                for line in stream:
                    with suppress(msgspec.DecodeError):  # Cut off when it was killed.
                        self._events.put(msgspec.json.decode(line))
        self._events.put({"event": DIED})


def _environment() -> dict[str, str]:
    """Returns the environment of the process: the same packages and the same backend as in this one."""
    own = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONFAULTHANDLER": "1"}
    if keras := sys.modules.get("keras"):
        own["KERAS_BACKEND"] = keras.config.backend()
    return {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", **os.environ, **own}
