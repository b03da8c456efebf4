"""The suite itself: it notices every kind of failure, and repeats cases."""

from __future__ import annotations

import gzip
import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from conftest import ROOT
from fuzz import artifacts, case, runner, tables
from fuzz.artifact import Content, Wrong
from fuzz.mutations import archives, frames, graphs, hdf5, raw, settings, structure, table_text, tensors

pytestmark = pytest.mark.one_backend


def outcome_of(name, folder):
    artifact = artifacts.find(f"_misbehaving:{name}")
    (folder / "originals").mkdir()
    artifact.write(folder / "originals")
    return case.read(case.prepare(artifact, 0, 0, folder / "originals", folder / "case"))


@pytest.mark.parametrize(
    ("name", "outcome", "error"),
    [
        ("raises", case.CRASHED, "KeyError"),
        ("panics", case.CRASHED, "BaseException"),
        ("infinite", case.CRASHED, "Wrong: outputs are not finite"),
        ("chatty", case.CRASHED, "Long of 100,000 characters"),
        ("accepts", case.CRASHED, "Wrong: a modified file was accepted"),
        ("refuses", case.REFUSED, "BundleError"),
    ],
)
def test_what_a_case_did(tmp_path, name, outcome, error):
    found = outcome_of(name, tmp_path)
    assert (found.outcome, found.error) == (outcome, error)
    assert found.mutation.startswith("file: insert")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("hangs", "time"),
        ("computes", "time"),
        ("aborts", "SIGABRT"),
        ("allocates", "memory"),
        ("grows", "memory"),
    ],
)
def test_a_process_is_killed_and_the_next_case_runs(tmp_path, monkeypatch, name, error):
    monkeypatch.setattr(runner, "SILENT_SECONDS", 3.0 if name == "hangs" else 60.0)
    monkeypatch.setattr(runner, "MOST_SECONDS", 0.1 if name == "computes" else 60.0)
    full = f"_misbehaving:{name}"
    runner.write([full], tmp_path)
    tally = runner.run(
        artifacts.find(full), full, seed=0, first=0, cases=2, until=time.monotonic() + 600, work=tmp_path
    )
    assert tally.counts == dict.fromkeys(case.OUTCOMES, 0) | {case.KILLED: 2}
    (failure,) = tally.failures.values()
    assert failure["error"] == error
    assert [one["number"] for one in failure["cases"]] == [0, 1]


def test_a_case_is_the_same_each_time(tmp_path):
    artifact = artifacts.find("keys-toml")
    (tmp_path / "originals").mkdir()
    artifact.write(tmp_path / "originals")

    def made(number, seed):
        prepared = case.prepare(artifact, number, seed, tmp_path / "originals", tmp_path / "case")
        return prepared.mutation, prepared.path.read_bytes()

    first = [made(number, 5) for number in range(20)]
    assert [made(number, 5) for number in range(20)] == first
    assert len(set(first)) > 10
    assert [made(number, 6) for number in range(20)] != first


FORMS = ROOT / "tests" / "data" / "forms"
JSON = json.dumps({"labels": ["a", "b"], "rank": 4, "options": {"alpha": 1.5, "on": True}}).encode()
TENSORS = save({"a": np.ones((2, 3), "float32"), "b": np.zeros(4, "float32")})


@pytest.mark.parametrize(
    ("mutations", "content"),
    [
        (raw.MUTATIONS, b"any bytes of a file"),
        (structure.MUTATIONS, JSON),
        (tensors.MUTATIONS, TENSORS),
        (settings.MUTATIONS, b'rank = 4\nlayers = "all"\n[table]\nx = [1, 2]\n'),
        (table_text.MUTATIONS, b"text,label\na,b\nc,d\n"),
        (archives.GZIP, gzip.compress(b"text,label\na,b\n", mtime=0)),
        (archives.ZIP, (FORMS / "kaggle.csv.zip").read_bytes()),
        (archives.ZIP, (FORMS / "pandas.xlsx").read_bytes()),
        (frames.PARQUET, (FORMS / "pandas.parquet").read_bytes()),
        (frames.ARROW, (FORMS / "saved_dataset" / "data-00000-of-00001.arrow").read_bytes()),
        (graphs.MUTATIONS, b"not a graph"),
        (hdf5.MUTATIONS, b"not a file of HDF5"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[0].__module__,
)
def test_mutations_take_any_bytes(mutations, content):
    generator = random.Random(0)
    changed = 0
    for _ in range(100):
        before = generator.choice((content, content, b"", b"{", generator.randbytes(50)))
        after = generator.choice(mutations)(generator, before)
        assert isinstance(after, bytes)
        changed += after != before
    assert changed > 20


def test_json_stays_json_and_tensors_stay_tensors():
    generator = random.Random(0)
    read = 0
    for _ in range(100):
        try:
            json.loads(structure.values(generator, JSON))
            read += 1
        except (ValueError, RecursionError):
            continue
    assert read > 80
    assert all(isinstance(load(tensors.whole(generator, TENSORS)), dict) for _ in range(100))


def test_contents_are_equal_up_to_rounding():
    one = Content.of([{"label": "a", "score": 0.5}], np.ones(3))
    assert one.equals(Content.of([{"label": "a", "score": 0.5 + 1e-7}], np.ones(3)))
    assert not one.equals(Content.of([{"label": "b", "score": 0.5}], np.ones(3)))
    assert not one.equals(Content.of([{"label": "a", "score": 0.6}], np.ones(3)))
    assert not one.equals(Content.of([{"label": "a", "score": 0.5}], np.ones(4)))
    with pytest.raises(Wrong, match="not finite"):
        Content.of([{"score": np.array([1.0, np.nan])}])


def test_the_tables_name_every_artifact_and_failure():
    tally = runner.Tally("bundle, in ONNX Runtime")
    tally.add(case.Outcome("bundle", 3, "one/bundle.json: values", case.REFUSED, seconds=0.5, mebibytes=7.0))
    crash = case.Outcome(
        "bundle", 4, "one/\x1b: cut", case.CRASHED, "KeyError", "bundle/reading.py:7 read", "'a'\nb"
    )
    tally.add(crash)
    tally.add(crash)
    stored = {
        "artifacts": {
            "bundle": {
                "title": tally.title,
                "counts": tally.counts,
                "slowest": tally.slowest,
                "memory": tally.memory,
                "failures": tally.failures,
            }
        }
    }
    rows = tables.outcomes(stored).splitlines()
    assert rows[2] == "| bundle, in ONNX Runtime | 3 | 1 | 0 | 0 | 2 | 0 | 0.50 s | 7 MiB |"
    assert rows[3].startswith("| all | 3 |")
    line = tables.failures(stored)
    assert line.startswith("bundle/reading.py:7 read: KeyError (2 times; bundle case 4, one/\\x1b: cut)")
    assert "\n" not in line


def test_every_module_of_mutations_is_tried():
    folder = Path(__file__).parent / "mutations"
    text = "".join(path.read_text() for path in (Path(__file__).parent / "artifacts").glob("[a-z]*.py"))
    for path in folder.glob("[a-z]*.py"):
        assert f"{path.stem}." in text, path.stem
