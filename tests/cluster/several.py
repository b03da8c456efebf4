"""Starts processes on this machine that know each other, as a launcher does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from conftest import TINY

TRAIN = ("-c", "from keras_peft.cli import main; main()", "train", "--base", str(TINY))
"""The command line, for Python."""


def start(*commands: Sequence[object]) -> list[subprocess.Popen]:
    """Starts Python in processes that know each other.

    Args:
        commands: The arguments of Python in each process.
    """
    environment = {
        # JAX warns of all variables with such a name, also of those for Ray's proxies.
        **{name: value for name, value in os.environ.items() if "PROXY" not in name.upper()},
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{free_port()}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(len(commands)),
    }
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
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
