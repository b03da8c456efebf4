"""A training by several processes gives what one process gives, and survives the loss of a process."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file
from several import child_of, ended, start

from conftest import make_rows, write_jsonl

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")

TOLERANCE = 1e-6
WORDS = ("model", "people", "time")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """33 training rows and 8 to validate: two whole batches, and one of a single row."""
    return write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", make_rows(41))


@pytest.fixture(scope="module")
def tags(tmp_path_factory):
    """Words with tags."""
    generator = np.random.default_rng(0)
    content = []
    for _ in range(30):
        words = [WORDS[number] for number in generator.integers(0, 3, generator.integers(2, 6))]
        content.append({"tokens": words, "tags": [word.upper() for word in words]})
    path = tmp_path_factory.mktemp("tags") / "tags.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def trained(out):
    report = json.loads((out / "report.json").read_text())
    losses = [[one["loss"], one["validation_loss"]] for one in report["history"]]
    return np.array(losses), load_file(out / "adapter.safetensors") | load_file(out / "head.safetensors")


def assert_same(one, other):
    (losses, tensors), (own, found) = trained(one), trained(other)
    np.testing.assert_allclose(own, losses, rtol=0, atol=TOLERANCE)
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize(
    ("count", "data", "options"),
    [
        (2, "rows", ["--epochs", 2, "--validation", 0.2]),
        (3, "rows", ["--epochs", 2, "--validation", "folds:2"]),
        (2, "rows", ["--epochs", 2, "--validation", 0.2, "--method", "adalora", "--class-weights"]),
        (2, "tags", ["--epochs", 2, "--validation", 0.2, "--gradient-accumulation", 2]),
        (2, "rows", ["--epochs", 1, "--validation", 0.2, "--adapt-first", "mlm", "--no-trunk-cache"]),
    ],
    ids=["rows", "folds", "adalora", "tags", "adapt-first"],
)
def test_several_processes_train_what_one_does(count, data, options, tmp_path, request):
    file = request.getfixturevalue(data)
    (alone,) = start([file, "--out", tmp_path / "one", *options], flags=())
    together = start(*[[file, "--out", tmp_path / "together", *options]] * count)
    ended([alone])
    first, *others = ended(together)
    assert_same(tmp_path / "one", tmp_path / "together")
    assert "Try it" in first
    assert not any(others)


def test_a_training_goes_on_with_more_processes_after_a_kill(rows, tmp_path):
    options = [rows, "--epochs", 6, "--validation", 0.2]
    (alone,) = start([*options, "--out", tmp_path / "one"], flags=())
    first, second = start(*[[*options, "--out", tmp_path / "b"]] * 2)
    for line in first.stdout:
        if line.startswith("epoch 2"):
            break
    os.kill(child_of(second), signal.SIGKILL)
    said = [process.communicate()[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [2, 2]
    assert said[0].splitlines()[-1].startswith("keras-peft: Another process of this training ended")
    assert said[1].strip().startswith("keras-peft: The training process was ended by SIGKILL")
    ended([alone])
    resumed = start(*[[*options, "--out", tmp_path / "b", "--resume"]] * 3)
    assert "Resuming after epoch" in ended(resumed)[0]
    assert_same(tmp_path / "one", tmp_path / "b")


def test_a_process_that_does_not_answer_ends_the_others(rows, tmp_path):
    options = [rows, "--epochs", 200, "--validation", 0.2, "--heartbeat", 2, "--out", tmp_path / "b"]
    first, second = start(options, options)
    for line in first.stdout:
        if line.startswith("epoch 1"):
            break
    stopped = child_of(second)
    os.kill(stopped, signal.SIGSTOP)
    try:
        said = first.communicate()[0]
        assert first.returncode == 2
        assert said.splitlines()[-1].startswith(
            "keras-peft: Another process of this training ended or does not"
        )
    finally:
        os.kill(stopped, signal.SIGKILL)
        second.communicate()


def test_processes_with_other_data_are_refused(rows, tmp_path):
    other = write_jsonl(tmp_path / "other.jsonl", make_rows(41, seed=1))
    options = ["--epochs", 1, "--validation", 0.2, "--out", tmp_path / "b"]
    both = start([rows, *options], [other, *options])
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [2, 2]
    for one in said:
        assert "The processes differ in training data, validation data." in one
    assert not (tmp_path / "b").exists()
