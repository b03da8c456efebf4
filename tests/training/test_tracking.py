"""Logging a training run to tracking tools."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_peft
from conftest import TINY
from keras_peft.errors import OptionError
from keras_peft.training import tracking
from keras_peft.training.fine_tune import fine_tune

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
