"""Workers that run trials outside of this process: others on this machine, each with its share of the cores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from keras_peft.child_process import ChildProcess, Killed
from keras_peft.errors import OptionError
from keras_peft.sweeping.job import Job, Outcome
from keras_peft.sweeping.space import Choice
from keras_peft.sweeping.trial import Report, Stopped


class InWorker(ABC):
    """Runs trials elsewhere, by messages: each choice, and each answer to a report, has a message as its reply."""

    place = "here"

    def ready(self) -> bool:
        """Returns whether it can run a trial now."""
        return True

    def train(self, choice: Choice, report: Report) -> Outcome:
        """Trains with some settings; see `InProcess.train`.

        Raises:
            Killed: If the process ends.
            Stopped: If `report` says so.
            OptionError: If the settings cannot be used, or the training diverges.
            RuntimeError: If anything else goes wrong there.
        """
        message = self.reply(vars(choice))
        while "rung" in message:
            message = self.reply(report(message["rung"], message["score"]))
        if "stopped" in message:
            raise Stopped
        if "refused" in message:
            raise OptionError(message["refused"])
        if "failed" in message:
            raise RuntimeError(f"A trial failed:\n{message['failed']}")
        return Outcome(**message["outcome"])

    @abstractmethod
    def reply(self, content: Any) -> dict[str, Any]:
        """Sends a choice or an answer, and returns the next message of the trial; see `worker.run_trials`.

        Raises:
            Killed: If the process ends.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the process."""


class InOtherProcess(InWorker):
    """Runs trials in a process of its own, which is started for the first trial, and again after it was killed.

    Args:
        job: What all trials share.
        threads: Number of threads that it computes with.
    """

    def __init__(self, job: Job, threads: int) -> None:
        self._job, self._threads = job, threads
        self._child: ChildProcess | None = None

    def train(self, choice: Choice, report: Report) -> Outcome:
        """Trains with some settings; see `InWorker.train`."""
        if self._child is None:
            self._child = ChildProcess("keras_peft.sweeping.worker", threads=self._threads)
            self._child.send(self._job)
        return super().train(choice, report)

    def reply(self, content: Any) -> dict[str, Any]:
        """Sends a choice or an answer, and returns the next message; see `InWorker.reply`."""
        child = self._child
        if child is None:
            raise Killed("its process was ended")
        child.send(content)
        try:
            message: dict[str, Any] = child.receive()
        except Killed:
            self.close()
            raise
        return message

    def close(self) -> None:
        """Ends the process."""
        child, self._child = self._child, None
        if child is not None:
            child.close()
