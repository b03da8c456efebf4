"""Starts a process that works for this one, exchanges messages with it, and notices its end."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from keras_peft.errors import KerasPeftError, reason_of

THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""The variables by which libraries choose the number of their threads."""
_END = object()
# The part of a log that is read for its last line.
_LAST_BYTES = 1 << 16


class Killed(Exception):
    """Raised when a process ends before it has answered; the message says how."""


class ChildProcess:
    """A process that works for this one, and may run out of memory or be killed without it.

    It has the packages, the backend and the environment variables of this process. It ends when this process ends, but
    not by an interrupt in the terminal, which reaches this process alone.

    Args:
        program: Name of the module that it runs, which connects with `parent_process.connect`.
        threads: Number of threads that its libraries compute with; by default, they decide.
        log: File that what it prints is added to, open for reading as well; by default a temporary one.

    Raises:
        KerasPeftError: If it cannot be started.

    Example:
        >>> child = ChildProcess("keras_peft.sharding.worker", threads=1)
        >>> child.send(job)
        >>> child.send(shard)
        >>> child.receive()
    """

    def __init__(self, program: str, *, threads: int | None = None, log: IO[bytes] | None = None) -> None:
        self._log = log or tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process runs)
        self._messages: queue.Queue[Any] = queue.Queue()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_environment(threads),
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise KerasPeftError(
                f"No further process can be started ({reason_of(error)}); free memory or end other processes."
            ) from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """Sends a message. If the process has ended, the next `receive` says so.

        Args:
            message: Anything that can be pickled.
        """
        data = pickle.dumps(message)
        if self._process.stdin is not None:
            with suppress(OSError, ValueError):  # It has ended, or was closed.
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def receive(self, timeout: float | None = None) -> Any:
        """Waits for the next message.

        Args:
            timeout: The longest time to wait, in seconds; by default as long as it takes.

        Returns:
            The message, or None if there was none in that time.

        Raises:
            Killed: If the process has ended, and there is no message left.
        """
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is _END:
            self._messages.put(_END)
            raise Killed(self._how())
        return message

    def close(self) -> None:
        """Ends the process at once, and frees its pipes; another thread that waits for it gets `Killed`."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):  # Something was still to be written.
                self._process.stdin.close()
        self._reader.join()
        self._log.close()

    def _read(self) -> None:
        """Collects the messages until the process ends."""
        stream = self._process.stdout
        try:
            # The last message may be cut off.
            with suppress(EOFError, OSError, pickle.UnpicklingError):
                while stream is not None:
                    self._messages.put(pickle.load(stream))
        finally:
            self._messages.put(_END)
            if stream is not None:
                stream.close()

    def _how(self) -> str:
        """Returns how the process ended."""
        code, last = self._process.wait(), "it said nothing"
        if code < 0:
            hint = " (perhaps for its memory)" if -code == getattr(signal, "SIGKILL", 9) else ""
            return f"its process was ended by {signal.Signals(-code).name}{hint}"
        with suppress(ValueError):  # The log is closed.
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LAST_BYTES))
            last = reason_of(Exception(self._log.read().decode(errors="replace")), line=-1)
        return f"its process ended with exit code {code}: {last}"


def _environment(threads: int | None) -> dict[str, str]:
    """Returns the environment of a process."""
    own = {
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        # Else Python would look for modules in the working directory first, where a stranger's files may be.
        "PYTHONSAFEPATH": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    if keras := sys.modules.get("keras"):
        own["KERAS_BACKEND"] = keras.config.backend()
    if threads is not None:
        own |= dict.fromkeys(THREADS, str(threads))
    return {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", **os.environ, **own}
