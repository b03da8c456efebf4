"""Comparisons with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import keras_peft
from conftest import ROOT, TINY, make_rows, write_jsonl
from keras_peft.comparing.jobs import Job
from keras_peft.comparing.process import WorkerProcess
from keras_peft.errors import DataError, OptionError
from keras_peft.progress import Progress

ROWS = 60
FOLDS = 5
IN_PISSA = ", initialization='pissa'"


class Seen(Progress):
    """Remembers what a comparison reports."""

    def __init__(self, on_finish=lambda count: None):
        self.finished, self.notes, self._on_finish = [], [], on_finish

    def compared(self, state):
        if state.finished is not None:
            self.finished.append(state)
            self._on_finish(len(self.finished))

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def processes(monkeypatch):
    """The processes that trained and, for each, the trainings that it was asked for."""
    found = {}
    send, remember = WorkerProcess.send, WorkerProcess.remember

    def sent(self, request):
        asked, _ = found.setdefault(self.pid, ([], []))
        if isinstance(request, Job):
            asked.append(request.name)
        send(self, request)

    def remembered(self, rss_mb):
        found[self.pid][1].append(rss_mb)
        remember(self, rss_mb)

    monkeypatch.setattr(WorkerProcess, "send", sent)
    monkeypatch.setattr(WorkerProcess, "remember", remembered)
    return found


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """A folder with training rows and test rows, so that there is one training for each seed."""
    folder, rows = tmp_path_factory.mktemp("sides"), make_rows(120)
    write_jsonl(folder / "train.jsonl", rows[:80])
    write_jsonl(folder / "test.jsonl", rows[80:])
    return folder


def compare(data, out, **options):
    return keras_peft.compare(
        data, out=out, **{"progress": Progress(), "methods": "words", "seeds": 1} | options
    )


def names(folder):
    return sorted(path.stem for path in (Path(folder) / "results").iterdir())


def test_every_fold_and_seed_has_a_file_and_none_is_repeated(data, tmp_path, processes):
    out = tmp_path / "out"
    found = compare(data, out, seeds=2)
    expected = sorted(f"words-{seed}-{fold}" for seed in range(2) for fold in range(FOLDS))
    assert names(out) == expected
    ((asked, _),) = processes.values()
    assert sorted(asked) == expected
    assert [len(one.counts) for one in found.results] == [ROWS // FOLDS] * 10
    assert found.recommended is None
    assert found.best is None
    processes.clear()
    again = compare(data, out, seeds=3, resume=True)
    assert [one for asked, _ in processes.values() for one in sorted(asked)] == [
        f"words-2-{n}" for n in range(FOLDS)
    ]
    assert again.results[:10] == found.results


def test_a_result_has_what_was_measured(data, tmp_path):
    (first, *_) = compare(data, tmp_path / "out").results
    assert first.candidate == "words"
    assert first.train_rows == 48
    assert len(first.test_rows) == 12
    assert sum(right for right, _ in first.counts) / 12 == first.metrics["accuracy"]
    assert first.trainable_parameters > 100
    assert first.adapter_bytes is None
    assert first.latency_ms > 0
    assert first.peak_mb > 50


def test_a_killed_process_loses_one_training(sides, tmp_path, processes):
    def kill(count):
        if count == 3:
            os.kill(next(iter(processes)), signal.SIGKILL)

    found = compare(sides, tmp_path / "out", seeds=5, progress=Seen(kill))
    assert [one.seed for one in found.results] == [0, 1, 2, 3, 4]
    (before, _), (after, _) = processes.values()
    # At most the training that was killed was asked for twice.
    assert len(set(before) & set(after)) <= 1
    assert len(before) + len(after) <= 6


def test_a_killed_comparison_is_resumed(sides, tmp_path, processes):
    out = tmp_path / "out"
    code = (
        "import keras_peft\n"
        "from keras_peft.progress import Progress\n"
        "class Told(Progress):\n"
        "    def compared(self, state):\n"
        "        if state.finished is not None:\n"
        "            print(state.finished, flush=True)\n"
        f"keras_peft.compare({str(sides)!r}, out={str(out)!r}, methods='words', seeds=30, progress=Told())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        for _ in range(3):
            assert parent.stdout.readline() == "words\n"
        parent.kill()
    kept = set(names(out))
    assert 3 <= len(kept) < 30
    found = compare(sides, out, seeds=30, resume=True)
    assert len(found.results) == 30
    ((asked, _),) = processes.values()
    # The process that trained may have finished one more before it noticed.
    assert len(asked) >= 30 - len(kept) - 1
    assert not kept & set(asked)


def test_results_are_written_whole(data, tmp_path, processes):
    out = tmp_path / "out"
    compare(data, out)
    damaged = out / "results" / "words-0-2.json"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    (out / "results" / "words-0-3.json").rename(out / "results" / "words-0-33.json")
    processes.clear()
    compare(data, out, resume=True)
    ((asked, _),) = processes.values()
    assert asked == ["words-0-2", "words-0-3"]
    assert not [path for path in out.rglob("*") if "partial" in path.name]


def test_a_low_limit_replaces_the_process_after_each_training(sides, tmp_path, processes):
    compare(sides, tmp_path / "out", seeds=3, worker_mb=1)
    assert [asked for asked, _ in processes.values()] == [["words-0"], ["words-1"], ["words-2"]]


def test_it_is_refused_before_anything_is_written(data, tmp_path):
    out = tmp_path / "out"
    for options, message in (
        ({"methods": "lora,wrods"}, "'wrods' is unknown.* Did you mean 'words'"),
        ({"seeds": 0}, "`seeds=0`: expected a whole number from 1 to 100"),
        ({"seeds": True}, "`seeds=True`: expected a whole number"),
        ({"budget": "soon"}, "`budget='soon'`: expected a duration"),
        ({"worker_mb": 0}, "`worker_mb=0`: expected a whole number"),
        ({"learning_rate": 1e-3, "seed": 1}, "'learning_rate', 'seed' have no effect here"),
        ({"epoch": 1}, "Unknown setting 'epoch'.* Did you mean 'epochs'"),
    ):
        with pytest.raises(OptionError, match=message):
            compare(data, out, **options)
    with pytest.raises(DataError, match="does not exist"):
        compare(tmp_path / "none.csv", out)
    assert not out.exists()


def test_a_folder_is_only_replaced_if_it_is_a_comparison(sides, tmp_path):
    out, data = tmp_path / "out", sides
    compare(data, out)
    with pytest.raises(
        OptionError, match="out exists; continue it with `resume=True`, replace it with `overwrite=True`"
    ):
        compare(data, out)
    assert len(compare(data, out, overwrite=True).results) == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("Dear …")
    for options in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(OptionError, match="is not a comparison"):
            compare(data, other, **options)
    assert (other / "letter.txt").read_text() == "Dear …"


def test_results_of_other_data_or_settings_are_not_continued(data, tmp_path):
    out = tmp_path / "out"
    compare(data, out)
    with pytest.raises(OptionError, match="out are of a comparison that differs in its settings; choose"):
        compare(data, out, resume=True, max_length=7)
    other = write_jsonl(tmp_path / "other.jsonl", make_rows(ROWS, seed=1))
    with pytest.raises(OptionError, match="differs in its data;"):
        compare(other, out, resume=True)
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps({**plan, "version": "0.0.1"}))
    with pytest.raises(OptionError, match="differs in its version;"):
        compare(data, out, resume=True)
    (out / "plan.json").write_text("{")
    with pytest.raises(OptionError, match=r"plan.json is not JSON .*; start again with `overwrite=True`"):
        compare(data, out, resume=True)


def test_a_budget_that_holds_nothing_is_refused(data, tmp_path):
    with pytest.raises(OptionError, match="not even the first candidate fits"):
        compare(data, tmp_path / "out", budget=0.001)
    assert len(compare(data, tmp_path / "out").results) == FOLDS  # Nothing is there that could be lost.


def test_data_that_changes_in_the_meantime_is_refused(tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", make_rows(ROWS))

    def change(count):
        write_jsonl(data, make_rows(ROWS, seed=2))

    with pytest.raises(DataError, match="The data changed during the comparison"):
        compare(data, tmp_path / "out", progress=Seen(change), worker_mb=1)


def test_rows_in_memory_are_compared(tmp_path):
    found = compare(iter(make_rows(ROWS)), tmp_path / "out")
    assert len(found.results) == FOLDS
    assert found.study.data == "data in memory"


def test_the_best_method_is_a_bundle(sides, tmp_path):
    options = {"base": str(TINY), "epochs": 2, "methods": "lora", "max_length": 32}
    found = compare(sides, tmp_path / "out", **options)
    assert found.recommended == "lora"
    assert keras_peft.load(found.best).predict(["the model and the model"])[0].label in ("alpha", "beta")
    (lora,) = found.results
    report = json.loads((found.best / "report.json").read_text())
    assert lora.trainable_parameters == report["plan"]["trainable_parameters"]
    assert lora.settings["max_length"] == report["settings"]["max_length"] == 32
    assert report["settings"]["learning_rate"] == lora.settings["learning_rate"]
    assert lora.adapter_bytes == 4 * lora.trainable_parameters
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content == json.loads(json.dumps(found.to_json()))
    assert "counts" not in content["results"][0]
    written = (found.best / "bundle.json").stat().st_mtime_ns
    again = compare(sides, tmp_path / "out", resume=True, **options)
    assert (again.best / "bundle.json").stat().st_mtime_ns == written


def test_a_method_is_compared_with_several_options(sides, tmp_path):
    options = {"base": str(TINY), "epochs": 1}
    methods = [keras_peft.LoRA(rank=2), keras_peft.LoRA(rank=4, initialization="pissa")]
    found = compare(sides, tmp_path / "out", methods=methods, **options)
    assert sorted(one.settings["method"]["rank"] for one in found.results) == [2, 4]
    trained = json.loads((found.best / "bundle.json").read_text())["parts"][0]["method"]
    assert found.recommended == f"lora(rank={trained['rank']}{IN_PISSA if trained['rank'] == 4 else ''})"
    assert f"lora(rank={trained['rank']}" in (tmp_path / "out" / "index.html").read_text()
    again = compare(sides, tmp_path / "out", methods=methods, resume=True, **options)
    assert (again.results, again.best) == (found.results, found.best)


@pytest.mark.slow
def test_memory_stays_below_the_limit(sides, tmp_path, processes):
    options = {"base": str(TINY), "epochs": 1, "methods": "lora"}
    compare(sides, tmp_path / "one", seeds=2, **options)
    ((_, memory),) = processes.values()
    limit = max(memory) + 150
    processes.clear()
    found = compare(sides, tmp_path / "many", seeds=40, worker_mb=limit, **options)
    assert len(found.results) == 40
    assert max(max(memory) for _, memory in processes.values() if memory) <= limit


@pytest.mark.slow
def test_the_command(command_line, data):
    arguments = (data, "--methods", "words,linear-probe", "--base", TINY, "--epochs", 1, "--seeds", 1)
    code, out, said = command_line("compare", *arguments, "--out", "out", "--json")
    assert code == 0, said
    content = json.loads(out)
    assert {one["candidate"] for one in content["results"]} == {"words", "linear-probe"}
    assert "5 of 5 (10 of 10 trainings" in said
    code, _, said = command_line("compare", *arguments, "--out", "out")
    assert code == 2
    assert said == (
        "keras-peft: out exists; continue it with --resume, replace it with --overwrite, or choose another --out.\n"
    )
    code, out, said = command_line("compare", *arguments, "--out", "out", "--resume")
    assert code == 0, said
    assert "words" in out
    code, _, said = command_line("compare", data, "--out", "new", "--learning-rate", 1)
    assert code == 2
    assert "No such option: --learning-rate" in said


@pytest.mark.slow
@pytest.mark.real
def test_methods_on_the_real_base(tmp_path):
    lines = (ROOT / "examples" / "conversations.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:120]), encoding="utf-8")
    (tmp_path / "test.jsonl").write_text("".join(lines[120:]), encoding="utf-8")
    options = {"methods": "lora,linear-probe", "epochs": 4, "max_length": 64}
    found = compare(tmp_path, tmp_path / "out", **options)
    scores = {one.candidate: one.metrics["accuracy"] for one in found.results}
    assert scores["lora"] > 0.4  # Four labels, equally often.
    assert found.recommended in scores
    assert (tmp_path / "out" / "index.html").stat().st_size > 10_000
    (lora,) = (one for one in found.results if one.candidate == "lora")
    assert 0 < lora.latency_ms < 60_000
    assert lora.peak_mb > 500
    assert keras_peft.load(found.best).predict(["Which one is faster?"])[0].label
