"""Predictions on Ray whose actors and driver are killed: no row is lost, doubled or different."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from serve.bundles import write_bundle

SHARDS, SIZE = 20, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle and an input of 20 shards in two files."""
    folder = tmp_path_factory.mktemp("on-ray")
    write_bundle(folder / "tiny", scale=2.0, seed=6)
    rows = [{"id": number, **row} for number, row in enumerate(make_rows(SHARDS * SIZE, seed=5))]
    (folder / "rows").mkdir()
    half = len(rows) // 2
    write_jsonl(folder / "rows" / "0.jsonl", rows[:half])
    write_jsonl(folder / "rows" / "1.jsonl", rows[half:])
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """The same predictions by one process without Ray."""
    call = {"rows_per_shard": SIZE, "progress": Progress()}
    return keras_peft.predict_files(folder / "tiny", folder / "rows", folder / "alone", **call)


def rows_of(folder, parts):
    return [json.loads(line) for name in parts for line in (folder / name).read_text().splitlines()]


def check(out, alone):
    """Checks the rows of a folder against those of one process."""
    expected = rows_of(Path(alone.folder), alone.parts)
    names = sorted(path.name for path in out.iterdir() if not path.name.startswith(".lock"))
    assert names == [*alone.parts, "predictions.json"]
    found = rows_of(out, alone.parts)
    assert [row["id"] for row in found] == list(range(SHARDS * SIZE))
    assert [row["label"] for row in found] == [row["label"] for row in expected]


# The first actor that has written a part is killed before it can say so; after six parts, the driver is killed.
DRIVER = """
import os, signal, sys
from pathlib import Path
from keras_peft import cluster
from keras_peft.sharding import on_ray, run
from keras_peft.progress import Progress

bundle, source, out, marker = sys.argv[1:]

class Dying(on_ray.PartActor):
    def write(self, shard):
        answer = super().write(shard)
        if not os.path.exists(marker):
            Path(marker).write_text(str(shard.number))
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

on_ray.PartActor = Dying
write, seen = on_ray.RayWriters.write, []
def dying(self, shards, advance):
    for done in write(self, shards, advance):
        seen.append(done)
        with open(f"{marker}.done", "a") as file:
            print(done.number, file=file)
        if len(seen) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        yield done

on_ray.RayWriters.write = dying
run.predict_files(bundle, source, out, rows_per_shard=10, on="ray", workers=2, progress=Progress())
"""


def test_a_killed_actor_and_a_killed_driver_lose_and_double_nothing(cluster, folder, alone, tmp_path):
    out, marker = tmp_path / "out", tmp_path / "killed"
    arguments = [str(one) for one in (folder / "tiny", folder / "rows", out, marker)]
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    done = list(map(int, (tmp_path / "killed.done").read_text().split()))
    assert len(done) == len(set(done)) == 6
    # The shard whose actor was killed is there, and no row of it is there twice.
    assert int(marker.read_text()) in range(SHARDS)
    finished = {path.name for path in out.glob("part-*")}
    assert {alone.parts[number] for number in done} <= finished
    kept = {name: (out / name).stat().st_mtime_ns for name in finished}
    command = [
        sys.executable,
        "-c",
        "from keras_peft.cli import main; main()",
        "predict",
        str(folder / "tiny"),
    ]
    command += ["--input", str(folder / "rows"), "--output", f"{out}/", "--on", "ray", "--workers", "2"]
    again = subprocess.run(
        [*command, "--rows-per-shard", str(SIZE), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["rows"] == SHARDS * SIZE
    assert found["found_rows"] >= 6 * SIZE
    assert found["labels"] == dict(alone.labels)
    check(out, alone)
    assert all((out / name).stat().st_mtime_ns == kept[name] for name in {alone.parts[n] for n in done})
    # Ray's own messages are not shown.
    lines = again.stderr.splitlines()
    assert lines[1].endswith(" parts of an earlier run …")
    assert lines[2] == "Starting Ray, or joining it …"
    said = ("Comparing", "Reading", "Starting")
    assert all(line.startswith(said) or line.endswith(" of 200 rows") for line in lines), lines


def test_an_actor_that_is_killed_again_and_again_is_told(cluster, folder, tmp_path, monkeypatch):
    from keras_peft.sharding import on_ray

    class Dying(on_ray.PartActor):
        def write(self, shard):
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(on_ray, "PartActor", Dying)
    with pytest.raises(OptionError, match=r"rows 1 to 10 of 0.jsonl was killed 3 times"):
        keras_peft.predict_files(
            folder / "tiny",
            folder / "rows" / "0.jsonl",
            tmp_path / "out",
            rows_per_shard=SIZE,
            on="ray",
            workers=1,
            progress=Progress(),
        )


def test_what_a_worker_refuses_is_told(cluster, folder, tmp_path):
    with pytest.raises(OptionError, match=r"There is no base .*nothing"):
        keras_peft.predict_files(
            folder / "tiny",
            folder / "rows" / "0.jsonl",
            tmp_path / "out",
            base=str(tmp_path / "nothing"),
            on="ray",
            workers=1,
            progress=Progress(),
        )


def test_relative_paths_are_those_of_the_working_directory(cluster, folder, alone, tmp_path, monkeypatch):
    shutil.copytree(TINY, tmp_path / "moved")
    shutil.copytree(folder / "tiny", tmp_path / "bundle")
    shutil.copytree(folder / "rows", tmp_path / "rows")
    monkeypatch.chdir(tmp_path)
    keras_peft.predict_files(
        "bundle",
        "rows/*.jsonl",
        "out",
        base="moved",
        rows_per_shard=SIZE,
        on="ray",
        workers=1,
        progress=Progress(),
    )
    expected = [row["label"] for row in rows_of(Path(alone.folder), alone.parts)]
    names = sorted(path.name for path in (tmp_path / "out").glob("part-*"))
    assert [row["label"] for row in rows_of(tmp_path / "out", names)] == expected
