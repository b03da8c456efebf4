"""One Ray session for all tests of this folder, which `make test-cluster` runs; `cluster` in conftest.py gives it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

import keras_peft

CORES = 2
# Ray counts them, and gives their numbers to processes; it does not look for them.
GPUS = 1
# How often Ray is started: on a busy machine, its start may take longer than it waits.
_STARTS = 2
# Ray's processes are children of this one, which ends with the tests, however they end.
_HEAD = """
import sys
import ray

ray.init(
    address="local",
    num_cpus=int(sys.argv[1]),
    num_gpus=int(sys.argv[2]),
    include_dashboard=False,
    log_to_driver=False,
    logging_level="ERROR",
    object_store_memory=200 << 20,
    _temp_dir=sys.argv[3],
)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@dataclass(frozen=True)
class Cluster:
    """A Ray session that this process and its children join by themselves.

    Attributes:
        address: Its address, as in `RAY_ADDRESS`.
        cores: Number of its cores.
    """

    address: str
    cores: int


@contextmanager
def started() -> Iterator[Cluster]:
    """Starts Ray on this machine, and leaves it at the end.

    In the context, the environment variables of this process are those of the session, such as `RAY_ADDRESS`.
    """
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed; `make test-cluster` installs it.")
    # Ray's sockets are in this folder, and their paths may have about a hundred characters.
    home = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    before = dict(os.environ)
    paths = [str(Path(keras_peft.__file__).parent.parent), str(Path(__file__).parents[1])]
    os.environ |= {
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [before.get("PYTHONPATH")])]),
        # Processes that join have to know it.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    os.environ.pop("RAY_ADDRESS", None)
    try:
        head, address = _start(home)
        os.environ["RAY_ADDRESS"] = address
        with head:
            yield Cluster(address, CORES)
            head.communicate()
    finally:
        os.environ.clear()
        os.environ |= before
        shutil.rmtree(home, ignore_errors=True)


def _start(home: Path) -> tuple[subprocess.Popen[str], str]:
    """Starts the process that starts Ray, and returns Ray's address."""
    for _ in range(_STARTS):
        head = subprocess.Popen(
            [sys.executable, "-c", _HEAD, str(CORES), str(GPUS), str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert head.stdout is not None
        if address := head.stdout.readline().strip():
            return head, address
        _, said = head.communicate()
    raise RuntimeError(f"Ray does not start:\n{said}")
