"""Runs a side of a benchmark in a process of its own, and measures its time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class SideFailed(Exception):
    """A process exited with an error, or did not behave as expected."""


def measured(
    command: Sequence[Any], *, scratch: Path, limit: float, environment: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], float, float]:
    """Runs a command that prints JSON.

    Args:
        command: The program and its arguments.
        scratch: Folder to run in and for the output.
        limit: Seconds after which the process is killed, because a hanging one would block the other sides.
        environment: Environment variables to add.

    Returns:
        The last line of JSON that it printed, its seconds, and its peak memory in MiB.

    Raises:
        SideFailed: If it exits with an error.
    """
    printed, errors = scratch / "printed", scratch / "errors"
    arguments = [str(part) for part in command]
    everything = {**os.environ, "KERAS_BACKEND": "tensorflow", "HF_HUB_OFFLINE": "1", **(environment or {})}
    with printed.open("wb") as out, errors.open("wb") as err:
        began = time.perf_counter()
        try:
            process = subprocess.Popen(arguments, stdout=out, stderr=err, env=everything, cwd=scratch)
        except OSError as error:
            raise SideFailed(f"{arguments[0]}: {error.strerror}") from error
        alarm = threading.Timer(limit, process.kill)
        alarm.start()
        try:
            # The usage of this process; getrusage gives the maximum over all finished child processes.
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            raise
        finally:
            alarm.cancel()
    if process.returncode:
        lines = errors.read_text(errors="replace").strip().splitlines()
        raise SideFailed("\n".join([f"It ended with exit code {process.returncode}.", *lines[-8:]]))
    said = json.loads(printed.read_text().strip().splitlines()[-1])
    return said, seconds, usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
