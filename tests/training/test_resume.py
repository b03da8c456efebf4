"""A resumed training gives the same result as an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_peft
from conftest import TINY
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.training.checkpoint import Checkpoint, TrainingState
from keras_peft.training.fine_tune import fine_tune
from sampling import sample, thorough

# In the new process, `moment` names the point at which it is killed: in the middle of an epoch, while the
# state is written, between the two renames that put it in place, or while the bundle is written.
KILLED = """
import os, signal, sys
from pathlib import Path
import keras, keras_peft
from keras_peft.bundle import verifying
from keras_peft.training import fine_tune as job
from keras_peft.core import weights

moment, data, out, base = sys.argv[1:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
seen = []

class Dying(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        seen.append(batch)
        if moment == "step" and len(seen) == 10:
            die()

write, rename = weights.write_tensors, Path.rename
def half(path, tensors):
    write(path, tensors)
    if moment == "state" and len(seen) > 9:
        path.write_bytes(path.read_bytes()[:100])
        die()
def first_rename(self, target):
    rename(self, target)
    if moment == "swap" and ".replaced-" in str(target):
        die()
weights.write_tensors, Path.rename = half, first_rename
if moment == "bundle":
    verifying.verify = die
job.fine_tune(data, out=out, base=base, callbacks=[Dying()], epochs=4, seed=3, validation=0.2)
"""


class Interrupting(keras.callbacks.Callback):
    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def weights_of(folder):
    return (folder / "adapter.safetensors").read_bytes()


METHODS = {
    "adalora": {"method": keras_peft.AdaLoRA(interval=1)},
    "full": {"method": keras_peft.FullFineTuning()},
    "options": {"patience": 4, "gradient_accumulation": 2, "class_weights": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sample(METHODS, "options", eager=False))
def test_it_goes_on_bit_for_bit(tmp_path, data, name):
    settings = {"base": str(TINY), "epochs": 5, "seed": 1, "validation": 0.2, **METHODS[name]}
    whole = fine_tune(data, out=tmp_path / "whole", **settings)
    steps = 3  # 48 rows in batches of 16.
    with pytest.raises(KeyboardInterrupt) as raised:
        fine_tune(data, out=tmp_path / "b", callbacks=[Interrupting(4 * steps - 1)], **settings)
    assert "`resume=True`" in raised.value.__notes__[0]
    assert not (tmp_path / "b").exists()
    notes = Notes()
    resumed = fine_tune(data, out=tmp_path / "b", resume=True, progress=notes, **settings)
    assert notes.notes == ["Resuming after epoch 3 of 5"]
    assert weights_of(tmp_path / "b") == weights_of(tmp_path / "whole")
    assert resumed.report["history"] == whole.report["history"]
    assert resumed.report["validation"] == whole.report["validation"]
    assert resumed.report["best_epoch"] == whole.report["best_epoch"]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


class InterruptingInFold(Notes):
    """Interrupts after the second epoch of the second fold."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def fold_epoch_ended(self, *, fold, epoch, metrics):
        self.seen.append((fold, epoch, next(iter(metrics.values()))))
        if (fold, epoch) == (1, 2):
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.one_backend
def test_folds_are_not_trained_twice(tmp_path, data):
    settings = {"base": str(TINY), "epochs": 3, "validation": "folds:3", "learning_rate": 1e-2}
    whole = fine_tune(data, out=tmp_path / "whole", **settings)
    first, again = InterruptingInFold(), Notes()
    with pytest.raises(KeyboardInterrupt) as raised:
        fine_tune(data, out=tmp_path / "b", progress=first, **settings)
    assert "`resume=True`" in raised.value.__notes__[0]
    seen = []
    again.fold_epoch_ended = lambda **event: seen.append(event)
    trained = []
    again.stepped = lambda loss: trained.append(loss)
    resumed = fine_tune(data, out=tmp_path / "b", resume=True, progress=again, **settings)
    assert again.notes[0] == "Resuming after fold 1 of 3"
    # The scores of the first fold are reported again; three epochs are trained in each of two folds and on all rows.
    assert [(one["fold"], one["epoch"]) for one in seen] == [(f, e) for f in range(3) for e in (1, 2, 3)]
    assert [next(iter(one["metrics"].values())) for one in seen[:3]] == [
        score for *_, score in first.seen[:3]
    ]
    assert len(trained) == 3 * 3 * 4  # Steps of 60 rows in batches of 16, also in the folds.
    assert weights_of(tmp_path / "b") == weights_of(tmp_path / "whole")
    assert resumed.report["validation"] == whole.report["validation"]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.eager
def test_without_resume_the_folds_are_trained_again(tmp_path, data):
    settings = {"base": str(TINY), "epochs": 2, "validation": "folds:2", "learning_rate": 1e-2}
    with pytest.raises(KeyboardInterrupt):
        fine_tune(data, out=tmp_path / "b", progress=InterruptingInFold(), **settings)
    notes = Notes()
    fine_tune(data, out=tmp_path / "b", progress=notes, **settings)
    assert "is replaced, because `resume` is not set" in notes.notes[0]
    assert not any("Resuming" in note for note in notes.notes)


@pytest.mark.parametrize("kind", ["arrays", "lists"])
def test_outputs_of_folds_are_saved(tmp_path, kind):
    from keras_peft.training.fold_outputs import FoldOutputs

    checkpoint = Checkpoint(tmp_path / "b.partial", {"seed": 1}).of_folds(3)
    one = np.arange(12, dtype=np.float32).reshape(4, 3)
    outputs = one if kind == "arrays" else [one[:1], one[1:4]]
    saved = FoldOutputs.read(checkpoint)
    saved.add([outputs, outputs], outputs)
    saved.add([outputs], outputs)
    found = FoldOutputs.read(checkpoint)
    assert [len(epochs) for epochs in found.epochs] == [2, 1]
    for back in (found.epochs[0][1], found.epochs[1][0], *found.unlabelled):
        assert len(back) == len(outputs)
        for left, right in zip(back, outputs, strict=True):
            np.testing.assert_array_equal(left, right)
    with pytest.raises(OptionError, match="folds was 3 and is now 2"):
        FoldOutputs.read(Checkpoint(tmp_path / "b.partial", {"seed": 1}).of_folds(2))


KILLABLE = {"base": str(TINY), "epochs": 4, "seed": 3, "validation": 0.2}


@pytest.fixture(scope="module")
def not_killed(tmp_path_factory, data):
    """The bundle of the same training without an interruption."""
    folder = tmp_path_factory.mktemp("whole") / "b"
    fine_tune(data, out=folder, **KILLABLE)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="one backend shows it")
@pytest.mark.parametrize("moment", ["state", *thorough("step", "swap", "bundle", eager=False)])
def test_a_killed_process_goes_on(tmp_path, data, not_killed, moment):
    arguments = [moment, data, tmp_path / "b", TINY]
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_peft.__file__).parent.parent)}
    # The command line sets this variable itself: too late for this process, but not for the new one.
    environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, *map(str, arguments)], env=environment, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "b").exists()
    notes = Notes()
    fine_tune(data, out=tmp_path / "b", resume=True, progress=notes, **KILLABLE)
    done = {"step": 3, "state": 3, "swap": 1, "bundle": 4}[moment]
    assert notes.notes == [f"Resuming after epoch {done} of 4"]
    assert weights_of(tmp_path / "b") == weights_of(not_killed)
    assert {path.name for path in tmp_path.iterdir()} == {"b", "logs"}


@pytest.mark.slow
@pytest.mark.eager
@pytest.mark.one_backend
def test_another_run_is_not_gone_on_with(tmp_path, data):
    settings = {"base": str(TINY), "epochs": 2, "validation": 0.2}
    with pytest.raises(KeyboardInterrupt):
        fine_tune(data, out=tmp_path / "b", callbacks=[Interrupting(4)], **settings)
    with pytest.raises(OptionError, match=r"different run: epochs was 2 and is now 3\."):
        fine_tune(data, out=tmp_path / "b", resume=True, **{**settings, "epochs": 3})
    notes = Notes()
    fine_tune(data, out=tmp_path / "b", progress=notes, **settings)
    assert "contains an interrupted training run, which is replaced" in notes.notes[0]
    assert not (tmp_path / "b.partial").exists()


@pytest.mark.slow
@pytest.mark.eager
@pytest.mark.one_backend
def test_a_full_disk_does_not_end_a_training(tmp_path, data, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    notes = Notes()
    monkeypatch.setattr(Checkpoint, "write", full)
    fine_tune(data, out=tmp_path / "b", base=str(TINY), epochs=2, progress=notes)
    assert len([note for note in notes.notes if "No space left on device" in note]) == 1


@pytest.mark.eager
def test_a_state_that_does_not_fit_is_reported_and_kept(tmp_path, data, monkeypatch):
    settings = {"base": str(TINY), "epochs": 3, "validation": 0.2}
    with pytest.raises(KeyboardInterrupt):
        fine_tune(data, out=tmp_path / "b", callbacks=[Interrupting(4)], **settings)
    read = Checkpoint.read
    monkeypatch.setattr(Checkpoint, "read", lambda self: TrainingState({}, read(self).content))
    with pytest.raises(OptionError, match="has different weights"):
        fine_tune(data, out=tmp_path / "b", resume=True, **settings)
    assert (tmp_path / "b.partial").is_dir()


@pytest.mark.slow
@pytest.mark.eager
@pytest.mark.one_backend
def test_nothing_to_go_on_with_is_a_beginning(tmp_path, data):
    fine_tune(data, out=tmp_path / "b", base=str(TINY), epochs=1, resume=True)
    assert (tmp_path / "b").is_dir()


@pytest.mark.one_backend
def test_a_damaged_state_is_reported(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", {"seed": 1})
    assert checkpoint.read() is None
    checkpoint.write(TrainingState({}, {"epoch": 1}))
    assert checkpoint.read().content == {"epoch": 1}
    for name in ("state.json", "state.safetensors"):
        checkpoint.write(TrainingState({}, {"epoch": 1}))
        (tmp_path / "c" / name).write_text("{")
        with pytest.raises(OptionError, match="is damaged"):
            checkpoint.read()


@pytest.mark.slow
def test_patience_stops_and_keeps_the_best(tmp_path, data):
    result = fine_tune(
        data, out=tmp_path / "b", base=str(TINY), epochs=40, patience=2, learning_rate=1e-2, layers="all"
    )
    history, best = result.report["history"], result.report["best_epoch"]
    assert len(history) == best + 2 < 40
    assert max(history, key=lambda one: (one["accuracy"], -one["validation_loss"]))["epoch"] == best
    assert result.report["validation"]["accuracy"] == history[best - 1]["accuracy"]
