"""Training by several processes of JAX, with Keras's own distribution: as by one, and none waits for ever."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.thorough

MEMBER = Path(__file__).parent / "training_member.py"
PATIENCE = 300.0


def train(folder, *, processes, rows):
    """Trains by some processes and returns what each says of the losses; the folder gets the adapter."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", MEMBER]
    members = [
        subprocess.Popen(
            [*command, *map(str, (rank, processes, port, rows, folder))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        said = [member.communicate(timeout=PATIENCE) for member in members]
    except subprocess.TimeoutExpired:
        pytest.fail("They wait for each other.")
    finally:
        for member in members:
            # One that waits for another does not hear that it is to end.
            member.kill()
            member.wait()
    assert [member.returncode for member in members] == [0] * processes, said
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


def test_20_two_processes_train_as_one_and_one_of_them_saves_by_itself(tmp_path):
    (alone,) = train(tmp_path / "one", processes=1, rows=12)
    together = train(tmp_path / "two", processes=2, rows=12)
    assert alone[-1] < alone[0]
    np.testing.assert_allclose(together, [alone] * 2, rtol=1e-5)
    one, two = (load_file(tmp_path / name / "adapter.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        np.testing.assert_allclose(two[key], value, atol=1e-5)


def test_20_a_last_batch_that_cannot_be_shared_hangs_nobody(tmp_path):
    # Of 13 rows in batches of 4 the last one has a single row.
    first, second = train(tmp_path / "adapter", processes=2, rows=13)
    assert first == second
    assert first[-1] < first[0]
    assert (tmp_path / "adapter" / "adapter.safetensors").is_file()
