"""Workers that run trials outside of this process: others on this machine, each with its share of the cores."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from keras_peft.errors import OptionError, reason_of
from keras_peft.sweeping.job import Job, Outcome
from keras_peft.sweeping.space import Choice
from keras_peft.sweeping.trial import Report, Stopped

THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""The variables by which libraries choose the number of their threads."""


class Killed(Exception):
    """Raised when the process of a trial ends in the middle of it; the message says how."""


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
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def train(self, choice: Choice, report: Report) -> Outcome:
        """Trains with some settings; see `InWorker.train`."""
        if self._process is None:
            self._start()
        return super().train(choice, report)

    def reply(self, content: Any) -> dict[str, Any]:
        """Sends a choice or an answer, and returns the next message; see `InWorker.reply`."""
        self._write(json.dumps(content).encode() + b"\n")
        return self._receive()

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, self._said):
            if stream is not None:
                with suppress(OSError):  # Something was still to be written.
                    stream.close()

    def _start(self) -> None:
        share = dict.fromkeys(THREADS, str(self._threads))
        source = str(Path(__file__).parents[2])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process runs)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "keras_peft.sweeping.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **share, "PYTHONPATH": os.pathsep.join(paths)},
        )
        job = pickle.dumps(self._job)
        self._write(len(job).to_bytes(8, "big") + job)

    def _write(self, data: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise Killed("The process has ended.")
        try:
            process.stdin.write(data)
            process.stdin.flush()
        except OSError:
            raise self._killed() from None

    def _receive(self) -> dict[str, Any]:
        process = self._process
        line = b"" if process is None or process.stdout is None else process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._killed()
        message: dict[str, Any] = json.loads(line)
        return message

    def _killed(self) -> Killed:
        """Returns how the process ended."""
        process, last = self._process, "it said nothing"
        code = None if process is None else process.wait()
        if self._said is not None and not self._said.closed:
            self._said.seek(0)
            last = reason_of(Exception(self._said.read().decode(errors="replace")), line=-1)
        self.close()
        if code is not None and code < 0:
            hint = " (perhaps for its memory)" if -code == getattr(signal, "SIGKILL", 9) else ""
            return Killed(f"its process was ended by {signal.Signals(-code).name}{hint}")
        return Killed(f"its process ended with exit code {code}: {last}")
