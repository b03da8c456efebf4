"""The quick benchmark compares the working tree with an earlier version of the repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.processes import SideFailed
from benchmarks.speed import quick

ROOT = Path(__file__).parent.parent


def pair(here, pinned):
    return {
        version: dict.fromkeys(quick.MEASURES, value)
        for version, value in (("here", here), ("pinned", pinned))
    }


def entry(**changes):
    pairs = [pair(10.0, 20.0), pair(10.0, 30.0), pair(8.0, 20.0)]
    return {
        "commit": "abcdef0+changes",
        "pinned": quick.PINNED,
        "rows": 1200,
        "epochs": 2,
        "load": 0.1,
        "pairs": pairs,
        "ratios": quick.ratios(pairs),
        **changes,
    }


def test_a_ratio_is_the_median_of_those_of_the_pairs():
    assert entry()["ratios"]["training"] == [2.5, 2.0, 3.0]


def test_the_table_shows_the_last_runs_with_the_same_setting():
    history = [entry(commit=f"{number:07}") for number in range(8)] + [entry(commit="another", rows=300)]
    lines = quick.lines(entry(load=5.0), history)
    assert max(map(len, lines)) <= 80
    training = next(line for line in lines if line.startswith(quick.MEASURES["training"]))
    assert training.split()[2:] == ["10.0", "20.0", "2.50", "(2.00–3.00)"]
    assert [line.split()[0] for line in lines[-5:]] == [f"{number:07}" for number in range(3, 8)]
    assert any("load 5.0" in line for line in lines)
    assert "Before" not in "\n".join(quick.lines(entry(), history[-1:]))


def test_both_versions_take_turns_until_the_time_is_over(monkeypatch, tmp_path):
    ran = []
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(quick.time, "perf_counter", lambda: next(clock))
    figures = dict.fromkeys(quick.MEASURES, 1.0)
    monkeypatch.setattr(quick, "_run", lambda tree, *_: ran.append(tree) or figures)
    trees = {quick.HERE: "here", quick.THERE: "pinned"}
    pairs = quick.measure(trees, tmp_path, rows=40, epochs=1, seconds=65)
    assert ran == ["pinned", "here", "here", "pinned", "pinned", "here"]
    assert [list(one) for one in pairs] == [["here", "pinned"]] * 3


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository")
def test_a_commit_is_unpacked_and_an_unknown_one_is_refused(tmp_path):
    tree = quick.unpack("HEAD", tmp_path / "tree")
    assert (tree / "keras_peft" / "cli" / "train.py").is_file()
    with pytest.raises(SideFailed, match="no-such-version cannot be read from git"):
        quick.unpack("no-such-version", tmp_path / "other")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.one_backend
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository")
def test_the_quick_benchmark_adds_a_line_to_its_history(tmp_path):
    results = tmp_path / "quick.jsonl"
    options = ["--rows", "40", "--epochs", "1", "--seconds", "1", "--results", results, "--pinned", "HEAD"]
    command = [sys.executable, "-m", "benchmarks.speed.quick", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = results.read_text().splitlines()
    found = json.loads(line)
    assert len(found["pairs"]) == 2
    assert 0 < found["pairs"][0]["here"]["training"] < found["pairs"][0]["here"]["training process"]
