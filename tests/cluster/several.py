"""Starts a training by several processes on this machine, as a launcher would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from conftest import TINY


def start(*commands: Sequence[object], flags: Sequence[str] = ("--distributed",)) -> list[subprocess.Popen]:
    """Starts `keras-peft train` in processes that know each other.

    Args:
        commands: The arguments of each process.
        flags: Flags that make it a training by several processes.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{free_port()}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(len(commands)),
    }
    run = [sys.executable, "-c", "from keras_peft.cli import main; main()", "train"]
    return [
        subprocess.Popen(
            [*run, *map(str, arguments), "--base", str(TINY), *flags],
            env={**environment, "KERAS_DISTRIBUTION_PROCESS_ID": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, arguments in enumerate(commands)
    ]


def ended(processes: list[subprocess.Popen]) -> list[str]:
    """Waits for processes that succeed, and returns what they said."""
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said


def free_port() -> int:
    """Returns the number of a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def child_of(process: subprocess.Popen) -> int:
    """Returns the id of the process that trains, which the command started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(children.read_text().split()[0])
