"""Predictions of files into folders of parts."""

from __future__ import annotations

import csv
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import keras_peft
from conftest import make_rows, write_jsonl
from keras_peft.errors import DataError, ExtraNotInstalled, KerasPeftError, OptionError
from keras_peft.progress import Progress
from keras_peft.sharding import parts, workers
from serve.bundles import write_bundle

COUNT = 45


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharding")


@pytest.fixture(scope="module")
def tiny(folder):
    """A bundle whose labels are about as frequent."""
    return write_bundle(folder / "tiny", scale=2.0, seed=6)


@pytest.fixture(scope="module")
def rows():
    return [{"id": number, **row} for number, row in enumerate(make_rows(COUNT, seed=5))]


@pytest.fixture(scope="module")
def source(folder, rows):
    """A folder with three files."""
    (folder / "in").mkdir()
    for number in range(3):
        write_jsonl(folder / "in" / f"{number}.jsonl", rows[number * 15 : number * 15 + 15])
    return folder / "in"


@pytest.fixture(scope="module")
def labels(tiny, rows):
    """The labels of one process without shards."""
    found = [one.label for one in keras_peft.load(tiny).predict([row["text"] for row in rows])]
    assert set(found) == {"alpha", "beta"}
    return found


def read(found):
    """The rows of all parts, in order."""
    every = []
    for name in found.parts:
        path = Path(found.folder) / name
        if path.suffix == ".parquet":
            every += pl.read_parquet(path).to_dicts()
        elif path.suffix == ".jsonl":
            every += [json.loads(line) for line in path.read_text().splitlines()]
        else:
            with path.open(newline="") as file:
                every += list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    return every


def check(found, labels):
    """Checks that no row is lost or doubled, and that the labels are those of one process."""
    written = read(found)
    assert [int(row["id"]) for row in written] == list(range(len(labels)))
    assert [row["label"] for row in written] == labels
    assert found.rows == len(labels)
    assert found.labels == {label: labels.count(label) for label in found.labels}
    inside = {path.name for path in Path(found.folder).iterdir() if not path.name.startswith(".")}
    assert inside == {*found.parts, "predictions.json"}
    assert json.loads((Path(found.folder) / "predictions.json").read_text())["complete"] is True


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_parts_have_all_rows_with_their_predictions(tmp_path, tiny, source, rows, labels, form):
    call = {"rows_per_shard": 10, "format": form, "progress": Progress()}
    found = keras_peft.predict_files(tiny, source, tmp_path / "out", **call)
    check(found, labels)
    assert len(found.parts) == 6
    assert [str(row["input.label"]) for row in read(found)] == [row["label"] for row in rows]
    again = keras_peft.predict_files(tiny, source, tmp_path / "out", **call)
    assert (again.found_rows, again.labels, again.parts) == (COUNT, found.labels, found.parts)


def test_parquet_has_one_schema_in_all_parts(tmp_path, tiny):
    rows = [{"text": "a model", "n": None}] * 2 + [{"text": "people", "n": 1, "more": ["x"]}] * 2
    write_jsonl(tmp_path / "in.jsonl", [*rows, {"text": "people", "n": 1.5}])
    found = keras_peft.predict_files(
        tiny,
        tmp_path / "in.jsonl",
        tmp_path / "out",
        rows_per_shard=2,
        format="parquet",
        progress=Progress(),
    )
    schemas = {str(pl.read_parquet_schema(tmp_path / "out" / name)) for name in found.parts}
    assert len(schemas) == 1
    frame = pl.read_parquet(tmp_path / "out" / "*.parquet")
    assert frame["n"].to_list() == [None, None, 1.0, 1.0, 1.5]
    assert frame["more"].to_list() == [None, None, ["x"], ["x"], None]


def test_values_that_parquet_cannot_store_are_refused(tmp_path, tiny):
    for value in ({"x": 1}, [1]):
        write_jsonl(tmp_path / "in.jsonl", [{"text": "a", "n": 1}, {"text": "b", "n": value}])
        for size in (1, 2):
            with pytest.raises(
                OptionError, match=r"in.jsonl has a column .* several types.* `format='jsonl'`"
            ):
                keras_peft.predict_files(
                    tiny, tmp_path / "in.jsonl", tmp_path / "out", format="parquet", rows_per_shard=size
                )


@pytest.mark.parametrize(
    ("task", "given", "counted"),
    [
        ("multi-label", ["a|b", "c"], True),
        ("multi-label", ["x", "y"], True),
        ("regression", [], False),
        ("token-labels", ["O", "B-x"], False),
    ],
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_labels_are_counted_again_from_the_parts(tmp_path, source, task, given, counted, form):
    bundle = write_bundle(tmp_path / "b", task=task, labels=given, scale=2.0)
    call = {
        "format": form,
        "text_column": "text",
        "rows_per_shard": 20,
        "progress": Progress(),
    }
    found = keras_peft.predict_files(bundle, source, tmp_path / "out", **call)
    again = keras_peft.predict_files(bundle, source, tmp_path / "out", **call)
    assert again.labels == found.labels
    assert bool(found.labels) == counted


def test_only_parts_that_are_missing_or_damaged_are_written(tmp_path, tiny, source, labels):
    call = {"rows_per_shard": 5, "format": "csv", "progress": Progress()}
    found = keras_peft.predict_files(tiny, source, tmp_path / "out", **call)
    (tmp_path / "out" / found.parts[2]).unlink()
    cut = tmp_path / "out" / found.parts[4]
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:-1]))
    for name in found.parts[:2] + found.parts[3:]:
        os.utime(tmp_path / "out" / name, (0, 0))
    (tmp_path / "out" / f".{found.parts[0]}.partial-1-x").write_text("half")
    again = keras_peft.predict_files(tiny, source, tmp_path / "out", **call)
    check(again, labels)
    assert again.found_rows == COUNT - 10
    assert [n for n, name in enumerate(found.parts) if (tmp_path / "out" / name).stat().st_mtime] == [2, 4]
    assert not list((tmp_path / "out").glob(".part*"))


def test_workers_write_the_same_parts(tmp_path, tiny, source, labels):
    call = {"rows_per_shard": 5, "progress": Progress()}
    one = keras_peft.predict_files(tiny, source, tmp_path / "one", **call)
    two = keras_peft.predict_files(tiny, source, tmp_path / "two", workers=2, **call)
    check(two, labels)
    assert two.parts == one.parts
    # Another number of threads adds in another order.
    for row, other in zip(read(one), read(two), strict=True):
        assert row.pop("probabilities") == pytest.approx(other.pop("probabilities"), abs=1e-5)
        assert row == other


def test_a_part_that_is_written_twice_is_the_same(tmp_path, tiny, source):
    call = {"rows_per_shard": 5, "progress": Progress()}
    one = keras_peft.predict_files(tiny, source, tmp_path / "one", **call)
    keras_peft.predict_files(tiny, source, tmp_path / "two", **call)
    for name in one.parts:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_killed_worker_is_replaced(tmp_path, tiny, source, labels, monkeypatch):
    write, killed = workers.WorkerProcess.write, []

    def killing(self, shard):
        if not killed and shard.number == 3:
            write(self, shard)
            killed.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)
        return write(self, shard)

    monkeypatch.setattr(workers.WorkerProcess, "write", killing)
    found = keras_peft.predict_files(
        tiny, source, tmp_path / "out", rows_per_shard=5, workers=2, progress=Progress()
    )
    assert killed
    check(found, labels)


def test_a_shard_that_kills_its_worker_is_told(tmp_path, tiny, source, monkeypatch):
    monkeypatch.setattr(
        workers.WorkerProcess, "write", lambda self, shard: (_ for _ in ()).throw(workers.Killed)
    )
    with pytest.raises(OptionError, match=r"rows 1 to 15 of \d.jsonl was killed 3 times, .* `workers`"):
        keras_peft.predict_files(tiny, source, tmp_path / "out", workers=2, progress=Progress())


# The process is killed while it writes the fourth part, after half of it.
KILLED = """
import os, signal, sys
import keras_peft
from keras_peft.progress import Progress
from keras_peft.sharding import parts

write, seen = parts._write_file, []
def dying(path, predicted, plan):
    seen.append(path)
    if len(seen) == 4:
        path.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, predicted, plan)

parts._write_file = dying
bundle, source, out = sys.argv[1:]
keras_peft.predict_files(bundle, source, out, rows_per_shard=5, progress=Progress())
"""


def test_a_killed_process_goes_on(tmp_path, tiny, source, labels):
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_peft.__file__).parent.parent)}
    arguments = [str(tiny), str(source), str(tmp_path / "out")]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "out").glob("part-*"))) == 3
    assert len(list((tmp_path / "out").glob(".part-*.partial-*"))) == 1
    found = keras_peft.predict_files(tiny, source, tmp_path / "out", rows_per_shard=5, progress=Progress())
    assert found.found_rows == 15
    check(found, labels)


# The process is killed while a worker predicts.
ORPHANED = """
import os, signal, sys
import keras_peft
from keras_peft.progress import Progress
from keras_peft.sharding import workers

finished = workers._finished
def dying(running, advance):
    for process in processes:
        print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

make, processes = workers.WorkerProcess.__init__, []
def making(self, *arguments):
    make(self, *arguments)
    self._start()
    processes.append(self)

workers.WorkerProcess.__init__, workers._finished = making, dying
bundle, source, out = sys.argv[1:]
keras_peft.predict_files(bundle, source, out, rows_per_shard=1, workers=2, progress=Progress())
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_workers_end_with_the_process_that_started_them(tmp_path, tiny, source):
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_peft.__file__).parent.parent)}
    arguments = [str(tiny), str(source), str(tmp_path / "out")]
    ended = subprocess.run(
        [sys.executable, "-c", ORPHANED, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    pids = list(map(int, ended.stdout.split()))
    assert len(pids) == 2
    assert all(map(has_ended, pids))


def has_ended(pid):
    """Waits for the end of a process of another parent."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)


def test_other_predictions_are_not_mixed(tmp_path, tiny, source, folder):
    other = write_bundle(folder / "other", scale=2.0, seed=4)
    call = {"rows_per_shard": 20, "progress": Progress()}
    first = keras_peft.predict_files(tiny, source, tmp_path / "out", **call)
    for bundle, given, options, told in [
        (other, source, {}, "of another bundle;"),
        (tiny, source / "0.jsonl", {}, "of another input;"),
        (tiny, source, {"rows_per_shard": 7, "format": "csv"}, "`rows_per_shard`, `format`"),
    ]:
        with pytest.raises(OptionError) as raised:
            keras_peft.predict_files(bundle, given, tmp_path / "out", **{**call, **options})
        assert told in str(raised.value)
        assert "`overwrite=True`" in str(raised.value)
    second = keras_peft.predict_files(other, source, tmp_path / "out", overwrite=True, **call)
    assert not set(first.parts) & set(second.parts)
    assert {path.name for path in (tmp_path / "out").glob("part-*")} == set(second.parts)
    # Its own predictions are kept.
    third = keras_peft.predict_files(other, source, tmp_path / "out", overwrite=True, **call)
    assert third.found_rows == COUNT


def test_a_folder_with_something_else_is_refused(tmp_path, tiny, source):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OptionError, match=r"contains notes.txt and no predictions; choose another"):
            keras_peft.predict_files(tiny, source, tmp_path / "out", overwrite=overwrite)
    with pytest.raises(OptionError, match="exists and is not a folder"):
        keras_peft.predict_files(tiny, source, tmp_path / "out" / "notes.txt")
    with pytest.raises(OptionError, match=r"contains the input .*0.jsonl"):
        keras_peft.predict_files(tiny, source, source)


def test_two_processes_do_not_write_to_one_folder(tmp_path, tiny, source):
    from keras_peft.sharding.addresses import Folder

    (tmp_path / "out").mkdir()
    with (
        Folder(str(tmp_path / "out")).locked(),
        pytest.raises(OptionError, match="Another process writes predictions to"),
    ):
        keras_peft.predict_files(tiny, source, tmp_path / "out", progress=Progress())


def test_a_failure_keeps_the_finished_parts(tmp_path, tiny, source, labels, monkeypatch):
    write = parts._write_file

    def failing(path, predicted, plan):
        if "part-00002" in path.name:
            raise OSError(28, "No space left on device")
        write(path, predicted, plan)

    monkeypatch.setattr(parts, "_write_file", failing)
    call = {"rows_per_shard": 15, "progress": Progress()}
    with pytest.raises(OptionError, match=r"cannot be written to \(No space left on device\)") as raised:
        keras_peft.predict_files(tiny, source, tmp_path / "out", **call)
    assert "The finished parts are kept in" in raised.value.__notes__[0]
    monkeypatch.undo()
    found = keras_peft.predict_files(tiny, source, tmp_path / "out", **call)
    assert found.found_rows == 30
    check(found, labels)


def test_a_replaced_bundle_is_noticed(tmp_path, source, monkeypatch):
    bundle = write_bundle(tmp_path / "b")
    load = parts.PartWriter.load

    def replacing(self):
        write_bundle(tmp_path / "b", seed=9)
        return load(self)

    monkeypatch.setattr(parts.PartWriter, "load", replacing)
    with pytest.raises(KerasPeftError, match="was replaced since its predictions began"):
        keras_peft.predict_files(bundle, source, tmp_path / "out", progress=Progress())


def test_input_and_output_are_elsewhere(tiny, source, labels):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for path in sorted(source.iterdir()):
        system.pipe_file(f"/rows/{path.name}", path.read_bytes())
    for given in ("memory://rows/*.jsonl", "memory://rows"):
        call = {"rows_per_shard": 10, "progress": Progress()}
        found = keras_peft.predict_files(tiny, given, "memory://out/", **call)
        names = {one.rpartition("/")[2] for one in system.ls("/out", detail=False)}
        assert names == {*found.parts, "predictions.json"}
        written = [
            json.loads(line)
            for name in found.parts
            for line in system.cat_file(f"/out/{name}").decode().splitlines()
        ]
        assert [row["id"] for row in written] == list(range(COUNT))
        assert [row["label"] for row in written] == labels
    system.rm_file(f"/out/{found.parts[1]}")
    assert keras_peft.predict_files(tiny, given, "memory://out", **call).found_rows == COUNT - 5
    with pytest.raises(DataError, match=r"memory://nothing/\*.csv matches no file"):
        keras_peft.predict_files(tiny, "memory://nothing/*.csv", "memory://out2")
    system.pipe_file("/bad/0.jsonl", b'{"text": "a"}\n{"text": ""}\n')
    with pytest.raises(DataError, match=r"0.jsonl: row 2 has no text"):
        keras_peft.predict_files(tiny, "memory://bad", "memory://out2")
    with pytest.raises(OptionError, match="is not an address that fsspec knows"):
        keras_peft.predict_files(tiny, "what://rows", "memory://out2")


def test_a_missing_fsspec_is_told(tmp_path, tiny, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ExtraNotInstalled, match=r"s3:// needs fsspec, .* 'keras-peft\[remote\]'"):
        keras_peft.predict_files(tiny, "s3://bucket/*.csv", tmp_path / "out")
    with pytest.raises(ExtraNotInstalled, match=r"s3:// needs fsspec"):
        keras_peft.predict_files(tiny, source, "s3://bucket/out")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"on": "rya"}, "`on='rya'`: expected one of machine, ray. Did you mean 'ray'?"),
        ({"workers": 0}, "`workers=0`: expected a whole number from 1"),
        ({"rows_per_shard": 0}, "`rows_per_shard=0`: expected a whole number from 1 to 1,000,000"),
        ({"format": "xlsx"}, "`format='xlsx'`: expected one of csv, tsv, jsonl, parquet."),
        ({"engine": "onxx"}, "`engine='onxx'`"),
        ({"text_column": "a,b"}, "`text_column=a,b`"),
        ({"text_column": "txet"}, "Did you mean 'text'?"),
    ],
)
def test_a_wrong_argument_is_told(tmp_path, tiny, source, options, told):
    with pytest.raises(KerasPeftError) as raised:
        keras_peft.predict_files(tiny, source, tmp_path / "out", progress=Progress(), **options)
    assert told in str(raised.value)
    assert not (tmp_path / "out").exists()
