"""Logging a training run to tracking tools."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import keras
import pytest

import keras_peft
from conftest import TINY
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.training import tracking
from keras_peft.training.fine_tune import fine_tune
from keras_peft.training.tracking import tensorboard

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

SETTINGS = {"base": str(TINY), "epochs": 3, "validation": 0.2}


def events_of(folder):
    """Reads the scalars of event files. A record is a length, a checksum, the content and a checksum."""
    import tensorflow as tf

    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = tf.compat.v1.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name in ("scalars", "")
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.mark.slow
def test_tensorboard_s_files_hold_the_history(tmp_path, data):
    result = fine_tune(data, out=tmp_path / "b", track=["tensorboard"], **SETTINGS)
    fine_tune(data, out=tmp_path / "b", track=["tensorboard"], overwrite=True, **SETTINGS)
    train, validation = (events_of(tmp_path / "logs" / "b" / part) for part in ("train", "validation"))
    assert set(train) == {("epoch_loss", epoch) for epoch in (1, 2, 3)}
    for record in result.report["history"]:
        assert train["epoch_loss", record["epoch"]] == pytest.approx(record["loss"])
        assert validation["epoch_accuracy", record["epoch"]] == pytest.approx(record["accuracy"])
        assert validation["epoch_loss", record["epoch"]] == pytest.approx(record["validation_loss"])


@pytest.mark.slow
def test_it_is_there_by_default_on_tensorflow_and_can_be_left_out(tmp_path, data):
    fine_tune(data, out=tmp_path / "b", **SETTINGS)
    assert (tmp_path / "logs" / "b").is_dir() == (keras.config.backend() == "tensorflow")
    fine_tune(data, out=tmp_path / "c", track=[], **SETTINGS)
    assert not (tmp_path / "logs" / "c").exists()


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_the_others_by_their_own_callbacks(tmp_path, data, name):
    if importlib.util.find_spec(name) is None:
        with pytest.raises(OptionError, match=f"needs the package {name}"):
            tracking.check([name])
        pytest.skip(f"{name} is not installed")
    # Importing these packages changes the process.
    script = (
        "import json, sys, keras_peft; keras_peft.fine_tune(sys.argv[1], out='b', **json.loads(sys.argv[2]))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(keras_peft.__file__).parent.parent), *sys.path]),
        "MLFLOW_TRACKING_URI": str(tmp_path / "mlruns"),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "WANDB_MODE": "offline",
    }
    arguments = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        script,
        str(data),
        json.dumps({**SETTINGS, "track": [name]}),
    ]
    subprocess.run(arguments, check=True, cwd=tmp_path, env=environment, capture_output=True)
    assert (tmp_path / "b" / "bundle.json").is_file()
    if name == "mlflow":
        (values,) = (tmp_path / "mlruns").rglob("metrics/val_accuracy")
        assert len(values.read_text().splitlines()) == 3
    else:
        assert list((tmp_path / "wandb").rglob("*.wandb"))


def test_a_name_that_is_none(tmp_path, data):
    with pytest.raises(OptionError, match="Did you mean 'tensorboard'"):
        fine_tune(data, out=tmp_path / "b", track=["tensorbord"])


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@contextmanager
def _failing(moment, calls):
    """A tracker that fails at a moment: when it is opened, in a hook, or when it is closed."""

    class Failing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            calls.append(f"epoch {epoch}")
            if moment == "hook" and epoch == 1:
                raise ConnectionError("The server cannot be reached\nsecond line")

    if moment == "open":
        raise ConnectionError("The server cannot be reached")
    try:
        yield Failing()
    finally:
        calls.append("closed")
        if moment == "close":
            raise ConnectionError("The server cannot be reached")


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("open", []),
        ("hook", ["epoch 0", "epoch 1", "closed"]),
        ("close", ["epoch 0", "epoch 1", "epoch 2", "closed"]),
    ],
)
def test_a_tracker_that_fails_does_not_stop_the_training(tmp_path, data, monkeypatch, moment, expected):
    calls, progress = [], Notes()
    monkeypatch.setattr(tensorboard, "tracked", lambda run: _failing(moment, calls))
    result = fine_tune(data, out=tmp_path / "b", track="tensorboard", progress=progress, **SETTINGS)
    assert len(result.report["history"]) == 3
    assert calls == expected
    assert [note for note in progress.notes if "tensorboard" in note] == [
        "tensorboard failed (The server cannot be reached); training continues without tracking"
    ]


@pytest.mark.parametrize("moment", ["never", "close"])
def test_a_tracker_hears_of_a_training_that_fails(monkeypatch, tmp_path, moment):
    """It is closed with the training's error, which stays the error that is raised."""
    calls, progress = [], Notes()
    monkeypatch.setattr(tensorboard, "tracked", lambda run: _failing(moment, calls))
    run = tracking.TrackedRun("b", tmp_path, {}, resumed=False)
    with pytest.raises(OptionError, match="diverged"), tracking.tracked(["tensorboard"], run, progress):
        raise OptionError("Training diverged.")
    assert calls == ["closed"]
    assert len(progress.notes) == (moment == "close")
