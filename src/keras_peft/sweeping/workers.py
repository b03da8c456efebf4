"""Processes that run trials, each with its share of the cores."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from keras_peft.errors import OptionError, reason_of
from keras_peft.sweeping.job import Job, Outcome
from keras_peft.sweeping.space import Choice
from keras_peft.sweeping.trial import Report, Stopped


class Killed(Exception):
    """Raised when the process of a trial ends in the middle of it; the message says how."""


class InOtherProcess:
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
        """Trains with some settings; see `InProcess.train`.

        Raises:
            Killed: If the process ends.
            Stopped: If `report` says so.
            OptionError: If the settings cannot be used, or the training diverges.
            RuntimeError: If anything else goes wrong there.
        """
        if self._process is None:
            self._start()
        self._send(vars(choice))
        while True:
            message = self._receive()
            if "rung" in message:
                self._send(report(message["rung"], message["score"]))
            elif "stopped" in message:
                raise Stopped
            elif "refused" in message:
                raise OptionError(message["refused"])
            elif "failed" in message:
                raise RuntimeError(f"A trial failed:\n{message['failed']}")
            else:
                return Outcome(**message["outcome"])

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
        share = dict.fromkeys(
            ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(self._threads)
        )
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

    def _send(self, content: Any) -> None:
        self._write(json.dumps(content).encode() + b"\n")

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
