"""Training on several JAX processes with Keras distribution: same result as on one, without a deadlock."""

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


def train(folder, *rows, processes):
    """Trains on a number of processes, once for each number of rows; saves the adapters in the folder.

    Returns the losses of each training from each process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", MEMBER]
    members = [
        subprocess.Popen(
            [*command, *map(str, (rank, processes, port, folder, *rows))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        said = [member.communicate(timeout=PATIENCE) for member in members]
    except subprocess.TimeoutExpired:
        pytest.fail("The processes wait for each other.")
    finally:
        for member in members:
            # A process that waits for another does not react to a request to stop.
            member.kill()
            member.wait()
    assert [member.returncode for member in members] == [0] * processes, said
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def together(folder):
    """The losses from two processes: one training on 12 rows, and one on 13."""
    # With 13 rows in batches of 4, the last batch has one row.
    return train(folder / "two", 12, 13, processes=2)


def test_20_two_processes_train_as_one_and_one_of_them_saves_by_itself(folder, together):
    ((alone,),) = train(folder / "one", 12, processes=1)
    assert alone[-1] < alone[0]
    np.testing.assert_allclose([losses for losses, _ in together], [alone] * 2, rtol=1e-5)
    one, two = (load_file(folder / name / "12" / "adapter.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        np.testing.assert_allclose(two[key], value, atol=1e-5)


def test_20_a_last_batch_that_cannot_be_shared_hangs_nobody(folder, together):
    first, second = (losses for _, losses in together)
    assert first == second
    assert first[-1] < first[0]
    assert (folder / "two" / "13" / "adapter.safetensors").is_file()
