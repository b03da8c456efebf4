"""The process that trains, while it is needed: started, and replaced before its memory exceeds the limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_peft.comparing.jobs import Setup
from keras_peft.comparing.process import DIED, WorkerProcess
from keras_peft.errors import DataError, OptionError

LOOKING = 0.5
"""Seconds to wait for an event before the budget is looked at again."""

Start = Callable[[Setup, Path], WorkerProcess]
"""Starts a process."""


class ProcessInUse:
    """The process that trains, or none.

    Args:
        start: Starts one.
        setup: What all its trainings share.
        log: File for its stderr.
        most_mb: Memory in MiB that it must not exceed.
    """

    def __init__(self, start: Start, setup: Setup, log: Path, most_mb: int) -> None:
        self._start, self._setup, self._log, self._most_mb = start, setup, log, most_mb
        self._process: WorkerProcess | None = None

    @property
    def is_warm(self) -> bool:
        """Whether there is a process that has trained before."""
        return self._process is not None and not self._process.fresh

    def ready(self, waited: Callable[[], None]) -> WorkerProcess:
        """Returns the process, after starting it if there is none.

        Args:
            waited: Is called every half second while it starts, and may raise.

        Raises:
            DataError: If it cannot read the data.
            OptionError: If it ends at its start.
        """
        if self._process is None:
            self._process = started = self._start(self._setup, self._log)
            while (event := started.event(LOOKING)) is None or event["event"] == "note":
                waited()
            if event["event"] == "failed":
                raise DataError(event["why"])
            if event["event"] == DIED:
                raise OptionError(f"The process that trains ended at its start; see {self._log}.")
        return self._process

    def replace_if_large(self, event: Mapping[str, Any]) -> None:
        """Ends the process if its next training might take its memory past the limit.

        Args:
            event: The end of a training, with the memory after it.
        """
        if self._process is not None:
            self._process.remember(event.get("rss_mb"))
            if self._process.rss_mb + self._process.growth_mb > self._most_mb:
                self._process.close()
                self._process = None

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process = None
