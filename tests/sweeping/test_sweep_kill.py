"""Sweeps whose processes are killed: none of their trials is lost, doubled or different."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_peft
from conftest import TINY
from keras_peft.progress import Progress
from keras_peft.sweeping import workers
from keras_peft.sweeping.sweep import sweep
from keras_peft.training.watcher import Watcher
from sampling import thorough

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="one backend shows it"),
]

SPACE = {"rank": {"values": [2, 4]}, "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True}}
SETTINGS = {"base": str(TINY), "epochs": 5, "validation": 0.3, "seed": 1}

# In the new process, `moment` names the point at which it is killed: at the third epoch of the second trial, while its
# journal is written, or while the bundle is trained.
KILLED = """
import json, os, signal, sys
from keras_peft.progress import Progress
from keras_peft.sweeping import finishing, study
from keras_peft.sweeping.sweep import sweep
from optuna.storages.journal import JournalFileBackend

moment, data, out, space, settings = sys.argv[1:]
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
report, seen = study.Study.report, []

def dying(self, trial, rung, score):
    seen.append(rung)
    if moment == "epoch" and len(seen) == 8:
        die()
    return report(self, trial, rung, score)

append = JournalFileBackend.append_logs
def half(self, logs):
    if moment == "journal" and len(seen) == 8:
        with open(self._file_path, "ab") as file:
            file.write(b'{"op_code": 8, "wor')
        die()
    append(self, logs)

study.Study.report, JournalFileBackend.append_logs = dying, half
if moment == "bundle":
    finishing.fine_tune = die
sweep(data, out=out, space=json.loads(space), trials=3, progress=Progress(), **json.loads(settings))
"""


@pytest.fixture(scope="module")
def not_killed(tmp_path_factory, data):
    """The same sweep without an interruption."""
    out = tmp_path_factory.mktemp("whole") / "swept"
    return sweep(data, out=out, space=SPACE, trials=3, progress=Progress(), **SETTINGS)


def plain(report):
    """Returns what the trials did, without their numbers and times."""
    left_out = ("trial", "seconds")
    return [{key: one[key] for key in one if key not in left_out} for one in report["trials"]]


def states(folder):
    """Returns the states of all trials in the journal, as Optuna reads it."""
    import optuna

    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / "trials.journal"))
    )
    return [one.state.name for one in optuna.load_study(study_name="sweep", storage=storage).trials]


@pytest.mark.parametrize("moment", ["epoch", *thorough("journal", "bundle", eager=False)])
def test_a_killed_sweep_goes_on(tmp_path, data, not_killed, monkeypatch, moment):
    out = tmp_path / "swept"
    arguments = [moment, data, out, json.dumps(SPACE), json.dumps(SETTINGS)]
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_peft.__file__).parent.parent)}
    environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, *map(str, arguments)], env=environment, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    epochs = []
    end = Watcher.on_epoch_end
    monkeypatch.setattr(
        Watcher,
        "on_epoch_end",
        lambda self, epoch, logs=None: (epochs.append(epoch), end(self, epoch, logs))[1],
    )
    resumed = sweep(data, out=out, space=SPACE, trials=3, progress=Progress(), resume=True, **SETTINGS)
    assert plain(resumed.report) == plain(not_killed.report)
    best = (resumed.bundle / "adapter.safetensors").read_bytes()
    assert best == (not_killed.bundle / "adapter.safetensors").read_bytes()
    found = states(out)
    assert "RUNNING" not in found
    assert "WAITING" not in found
    assert len(resumed.report["trials"]) == 3
    assert found.count("FAIL") == (0 if moment == "bundle" else 1)
    # The second trial was killed in its third epoch and has a checkpoint of the second.
    assert epochs[0] == (0 if moment == "bundle" else 2)


def test_a_killed_worker_is_replaced(tmp_path, data, monkeypatch):
    whole = sweep(
        data, out=tmp_path / "whole", space=SPACE, trials=4, workers=2, progress=Progress(), **SETTINGS
    )
    reply, killed = workers.InOtherProcess.reply, []

    def killing(self, content):
        message = reply(self, content)
        if message.get("rung") == 6 and len(killed) < 1 and self._child is not None:
            killed.append(self._child.pid)
            os.kill(self._child.pid, signal.SIGKILL)
        return message

    monkeypatch.setattr(workers.InOtherProcess, "reply", killing)
    found = sweep(
        data, out=tmp_path / "swept", space=SPACE, trials=4, workers=2, progress=Progress(), **SETTINGS
    )
    assert killed

    def by_settings(report):
        return sorted(
            (str(one["settings"]), one["score"], one["weights"], str(one["rungs"]))
            for one in report["trials"]
        )

    assert by_settings(found.report) == by_settings(whole.report)
    assert sorted(states(tmp_path / "swept")) == ["COMPLETE"] * 4 + ["FAIL"]
    assert not (tmp_path / "swept" / "interrupted").exists()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_workers_end_with_the_process_that_started_them(tmp_path, data):
    code = (
        "import json, os, sys\n"
        "from keras_peft.sweeping import workers\n"
        "from keras_peft.sweeping.sweep import sweep\n"
        "from keras_peft.progress import Progress\n"
        "reply = workers.InOtherProcess.reply\n"
        "def telling(self, content):\n"
        "    message = reply(self, content)\n"
        "    print(self._child.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "workers.InOtherProcess.reply = telling\n"
        "data, out, base = sys.argv[1:]\n"
        "sweep(data, out=out, base=base, workers=2, epochs=500, validation=0.3, progress=Progress())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_peft.__file__).parent.parent)}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(data), str(tmp_path / "swept"), str(TINY)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    pid = int(ended.stdout.split()[0])
    # Its trial has 500 epochs, so it ends because its stdin does.
    assert _ends(pid)


def _ends(pid):
    """Waits for the end of a process of another parent."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)
