"""A training by several processes gives what one process gives, and survives the loss of a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import keras_peft
from cluster.several import TRAIN, child_of, ended, start
from cluster.training_cases import CASES, OPTIONS, ROWS
from conftest import TINY, make_rows, write_jsonl
from keras_peft.errors import DataError
from keras_peft.progress import Progress

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")

TOLERANCE = 1e-6
SCRIPT = Path(__file__).with_name("training_cases.py")
LOST = "keras-peft: Another process of this training ended or does not answer"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of the bundles that one process trained and that of two processes, and what these said."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    alone, together = start([SCRIPT, one]), start([SCRIPT, two], [SCRIPT, two])
    ended(alone)
    return one, two, ended(together)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows in a file."""
    return write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", make_rows(41))


def content(bundle):
    report = json.loads((bundle / "report.json").read_text())
    losses = [[one["loss"], one["validation_loss"]] for one in report["history"]]
    return np.array(losses), load_file(bundle / "adapter.safetensors")


def assert_same(one, other):
    (losses, tensors), (own, found) = content(one), content(other)
    np.testing.assert_allclose(own, losses, rtol=0, atol=TOLERANCE)
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_several_processes_train_what_one_does(trained, case):
    one, two, _ = trained
    assert_same(one / case, two / case)


def test_processes_with_other_data_are_refused(trained):
    _, two, said = trained
    for one in said:
        assert "The processes differ in training data, validation data" in one
    assert not (two / "refused").exists()


class Told(Progress):
    """Remembers the stages, the notes and the epochs."""

    def __init__(self):
        self.stages, self.notes, self.epochs = [], [], []

    def stage(self, text):
        self.stages.append(text)

    def note(self, text):
        self.notes.append(text)

    def epoch_ended(self, *, epoch, loss, metrics):
        self.epochs.append(epoch)


def test_ray_starts_the_processes_again_when_one_is_killed(trained, cluster, tmp_path):
    from cluster.dying import Dying

    one, *_ = trained
    told, killed = Told(), tmp_path / "killed"
    result = keras_peft.fine_tune(
        ROWS,
        out=tmp_path / "b",
        **OPTIONS,
        on="ray",
        workers=2,
        callbacks=[Dying(killed)],
        track=[],
        progress=told,
    )
    assert killed.exists()
    assert_same(one / "rows", tmp_path / "b")
    assert result.report["history"][-1]["epoch"] == 2
    assert told.epochs == [1, 2]
    assert told.notes[0] == "the cluster has 1 GPU, and no worker asks for one; add `gpus=1` for one each."
    assert told.stages[-1] == "Saving and verifying the bundle"


def test_relative_paths_on_ray_are_those_of_the_working_directory(cluster, tmp_path, monkeypatch):
    from cluster.dying import Telling

    rows = make_rows(30)
    write_jsonl(tmp_path / "rows.jsonl", rows[:20])
    write_jsonl(tmp_path / "held-out.jsonl", rows[20:])
    (tmp_path / "more.txt").write_text("".join(f"{row['text']}\n" for row in rows))
    shutil.copytree(TINY, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    paths = {"base": "tiny", "validation": "held-out.jsonl", "unlabelled": "more.txt"}
    result = keras_peft.fine_tune(
        "rows.jsonl",
        out="b",
        **paths,
        epochs=1,
        on="ray",
        gpus=1,
        callbacks=[Telling(tmp_path / "gpus")],
        track=[],
        progress=Progress(),
    )
    # Ray has given its process the only GPU that it counts.
    assert (tmp_path / "gpus").read_text() == "0"
    assert result.report["validation"]["rows"] == 10
    assert keras_peft.load(tmp_path / "b").predict(["time people"])


def test_what_a_process_on_ray_refuses_is_an_error(cluster, tmp_path):
    with pytest.raises(DataError, match="at least two labels"):
        keras_peft.fine_tune(
            [{"text": f"Text {number}.", "label": "a"} for number in range(9)],
            out=tmp_path / "b",
            **OPTIONS,
            on="ray",
            progress=Progress(),
        )
    assert not (tmp_path / "b").exists()


def test_a_training_goes_on_with_more_processes_after_a_kill(rows, tmp_path):
    options = [*TRAIN, rows, "--epochs", 6, "--validation", 0.2]
    alone = start([*options, "--out", tmp_path / "one"])
    together = [*options, "--out", tmp_path / "b", "--distributed"]
    first, second = start(together, together)
    for line in first.stdout:
        if line.startswith("epoch 2"):
            break
    os.kill(child_of(second), signal.SIGKILL)
    said = [process.communicate()[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [2, 2]
    assert said[0].splitlines()[-1].startswith(LOST)
    assert said[1].startswith("keras-peft: The training process was ended by SIGKILL")
    ended(alone)
    resumed = ended(start(*[[*together, "--resume"]] * 3))
    assert "Resuming after epoch" in resumed[0]
    assert "Try it" in resumed[0]
    assert not any(resumed[1:])
    assert_same(tmp_path / "one", tmp_path / "b")


def test_a_process_that_does_not_answer_ends_the_others(rows, tmp_path):
    options = [*TRAIN, rows, "--epochs", 900, "--validation", 0.2, "--out", tmp_path / "b"]
    (tmp_path / "run.toml").write_text("distributed = true\nheartbeat = 2\n")
    configured = [*options, "--config", tmp_path / "run.toml"]
    first, second = start(configured, [*options, "--distributed", "--heartbeat", 2])
    for line in first.stdout:
        if line.startswith("epoch 1 "):
            break
    stopped = child_of(second)
    os.kill(stopped, signal.SIGSTOP)
    try:
        said = first.communicate()[0]
        assert first.returncode == 2
        assert said.splitlines()[-1].startswith(LOST)
    finally:
        os.kill(stopped, signal.SIGKILL)
        second.communicate()
