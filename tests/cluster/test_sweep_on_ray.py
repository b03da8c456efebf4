"""Sweeps on Ray whose actors and driver are killed: no trial is lost, doubled or different."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft.child_process import THREADS
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.sweeping import on_ray
from keras_peft.sweeping.sweep import sweep

TRIALS = 4
SPACE = """rank = { values = [2, 4] }
learning_rate = { low = 3e-3, high = 1e-1, log = true }
"""
SETTINGS = {"base": "tiny", "epochs": 4, "validation": 0.3, "trials": TRIALS}


# The process that hands out the trials is killed in the middle of the third one.
DRIVER = """
import os, signal, sys
from keras_peft.cli import main
from keras_peft.sweeping.study import Study

report = Study.report

def dying(self, trial, rung, score):
    if (trial.number, rung) == (2, 5):
        os.kill(os.getpid(), signal.SIGKILL)
    return report(self, trial, rung, score)

if sys.argv.pop() == "die":
    Study.report = dying
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows, a space and a base."""
    folder = tmp_path_factory.mktemp("on-ray")
    write_jsonl(folder / "rows.jsonl", make_rows(40))
    (folder / "space.toml").write_text(SPACE)
    shutil.copytree(TINY, folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """The trials of the same sweep by one process without Ray, with as many threads as an actor has."""
    ended = command(folder, folder / "alone", "--workers", 1, "live", **dict.fromkeys(THREADS, "1"))
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["trials"]


def command(folder, out, *more, **environment):
    """Runs the command line in a process of its own."""
    options = [one for key, value in SETTINGS.items() for one in (f"--{key}", value)]
    arguments = ["sweep", "rows.jsonl", "--out", out, "--space", "space.toml", *options, "--json", *more]
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def check(trials, out, alone):
    """Checks that all trials are those of one process, once each, and that none stays open."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    def plain(trials):
        left_out = ("trial", "seconds")
        return sorted(json.dumps({key: one[key] for key in one if key not in left_out}) for one in trials)

    assert plain(trials) == plain(alone)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(out / "trials.journal")))
    states = [one.state.name for one in optuna.load_study(study_name="sweep", storage=storage).trials]
    assert states.count("COMPLETE") == TRIALS
    assert set(states) == {"COMPLETE", "FAIL"}
    assert states.count("FAIL") == 1
    assert not (out / "interrupted").exists()
    assert keras_peft.load(out / "best").predict(["time people"])


def test_a_killed_actor_loses_and_doubles_no_trial(cluster, folder, alone, tmp_path, monkeypatch):
    marker = tmp_path / "killed"

    class Dying(on_ray.TrialActor):
        """Is killed once, in the middle of a trial."""

        def reply(self, content):
            message = super().reply(content)
            if message.get("rung") == 5 and not marker.exists():
                marker.write_text(" ".join(one.name for one in self._runner._job.folder.iterdir()))
                os.kill(os.getpid(), signal.SIGKILL)
            return message

    monkeypatch.setattr(on_ray, "TrialActor", Dying)
    monkeypatch.chdir(folder)
    found = sweep(
        "rows.jsonl",
        out=tmp_path / "swept",
        space="space.toml",
        on="ray",
        workers=2,
        progress=Progress(),
        **SETTINGS,
    )
    # Its checkpoint is there for the next one.
    assert marker.read_text()
    check(found.report["trials"], found.folder, alone)
    assert found.report["workers"] == 2


def test_a_killed_driver_goes_on(cluster, folder, alone, tmp_path):
    out, place = tmp_path / "swept", ("--on", "ray", "--workers", 1)
    killed = command(folder, out, *place, "die")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = command(folder, out, *place, "--resume", "live")
    assert again.returncode == 0, again.stderr
    trials = json.loads(again.stdout)["trials"]
    check(trials, out, alone)
    # Those that had ended were not trained again.
    assert [one["trial"] for one in trials] == [0, 1, 3, 4]
    assert "Starting 1 worker on Ray, which has 2 cores" in again.stderr


def test_other_rows_on_another_machine_are_refused(cluster, folder, tmp_path, monkeypatch):
    class Elsewhere(on_ray.TrialActor):
        """Finds other rows under the same path."""

        def __init__(self, job, rows, backend):
            super().__init__(job, rows[::-1], backend)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(on_ray, "TrialActor", Elsewhere)
    with pytest.raises(OptionError, match=r"The machine .* has other rows; expected the same files"):
        sweep(
            folder / "rows.jsonl",
            out=tmp_path / "swept",
            space=folder / "space.toml",
            on="ray",
            workers=1,
            progress=Progress(),
            **SETTINGS,
        )


def test_the_cores_of_a_worker():
    given = {((8, 6), 4): (4, 3), ((8, 6), None): (3, 4), ((2,), 3): (3, 1), ((), None): (1, 1)}
    given[(0, 64), 2] = (2, 4)
    assert {one: on_ray._shares(*one) for one in given} == given
