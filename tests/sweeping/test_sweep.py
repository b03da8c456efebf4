"""A sweep with real trainings of a tiny base: its files, its refusals and the command line."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from dataclasses import replace

import pytest

import keras_peft
from conftest import ROOT, TINY, make_rows, write_jsonl
from keras_peft import tasks
from keras_peft.errors import DataError, ExtraNotInstalled, OptionError
from keras_peft.progress import Progress
from keras_peft.sweeping.page import as_html
from keras_peft.sweeping.plan import plan, suited
from keras_peft.sweeping.sweep import sweep

SPACE = {
    "rank": {"values": [4, 8]},
    "targets": {"values": ["default", ["attention.query", "ffn.up"]]},
    "learning_rate": {"low": 1e-2, "high": 3e-2, "log": True},
}
QUICK = {"base": str(TINY), "epochs": 2, "validation": 0.3, "progress": Progress()}


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("test") / "test.jsonl", make_rows(30, seed=5))


@pytest.fixture(scope="module")
def swept(tmp_path_factory, data, unseen):
    """A sweep of three trials."""
    out = tmp_path_factory.mktemp("sweeps") / "swept"
    return sweep(data, out=out, space=SPACE, trials=3, test=unseen, **QUICK)


def test_its_files(swept, unseen):
    names = {path.name for path in swept.folder.iterdir()}
    assert names >= {"best", "run.toml", "index.html", "sweep.json", "trials.journal"}
    assert "interrupted" not in names
    assert json.loads((swept.folder / "sweep.json").read_text()) == json.loads(json.dumps(swept.report))
    assert swept.to_json()["folder"] == str(swept.folder)
    trials = swept.report["trials"]
    assert len(trials) == 3
    assert trials[0]["defaults"]
    assert trials[0]["settings"] == {"method": "lora", "rank": 8}
    assert swept.best["score"] == max(one["score"] for one in trials if one["score"] is not None)


def test_the_bundle_is_that_of_the_best_trial(swept, unseen):
    report = json.loads((swept.bundle / "report.json").read_text())
    # The training on the same rows with the same seed gives the same scores.
    assert report["validation"]["accuracy"] == swept.best["score"]
    scores = keras_peft.load(swept.bundle).evaluate(unseen)
    assert scores.metrics["accuracy"] == swept.report["test"]["best"]["accuracy"]


def test_the_test_rows_compare_with_the_defaults(swept):
    test = swept.report["test"]
    difference = test["difference"]
    if swept.best["defaults"]:
        assert difference is None
        return
    assert (swept.folder / "defaults" / "bundle.json").is_file()
    assert difference["value"] == pytest.approx(test["best"]["accuracy"] - test["defaults"]["accuracy"])
    assert difference["low"] <= difference["value"] <= difference["high"]


@pytest.mark.slow
def test_its_settings_train_the_same_bundle(swept, tmp_path, command_line):
    flags = tomllib.loads((swept.folder / "run.toml").read_text())
    assert flags["method"] == "lora"
    code, _, said = command_line("train", "--config", swept.folder / "run.toml", "--out", tmp_path / "again")
    assert code == 0, said
    assert (tmp_path / "again" / "adapter.safetensors").read_bytes() == (
        swept.bundle / "adapter.safetensors"
    ).read_bytes()


def test_it_is_shown_in_words(swept):
    assert re.fullmatch(
        r"Sweep\(.*swept: 3 trials, best accuracy \d\.\d{3}, defaults \d\.\d{3}; lora.*\)", repr(swept)
    )
    assert swept._repr_html_().count("<tr>") == 1 + sum(
        one["score"] is not None for one in swept.report["trials"]
    )


def test_an_existing_sweep_is_not_replaced(swept, data, tmp_path):
    with pytest.raises(OptionError, match=r"exists; continue it with `resume=True`, replace it"):
        sweep(data, out=swept.folder, space=SPACE, trials=3, **QUICK)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="is not a sweep"):
        sweep(data, out=other, space=SPACE, trials=3, overwrite=True, **QUICK)
    assert (other / "notes.txt").read_text() == "mine"


def test_another_sweep_is_not_resumed(swept, data, tmp_path):
    other = write_jsonl(tmp_path / "other.jsonl", make_rows(50, seed=3))
    for change in (
        {"data": other},
        {"space": {"rank": {"values": [4, 8]}}},
        {"epochs": 3},
        {"method": keras_peft.LoRA(alpha=8.0)},
    ):
        arguments = {"data": data, "space": SPACE, "trials": 3, **QUICK, **change}
        with pytest.raises(OptionError, match="a different one"):
            sweep(out=swept.folder, resume=True, **arguments)


def test_a_finished_sweep_is_resumed_without_a_training(swept, data, unseen, monkeypatch):
    from keras_peft.sweeping import finishing, trial

    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(trial.InProcess, "train", refuse)
    monkeypatch.setattr(finishing, "fine_tune", refuse)
    again = sweep(data, out=swept.folder, space=SPACE, trials=3, test=unseen, resume=True, **QUICK)
    assert again.report["trials"] == swept.report["trials"]
    assert again.report["test"] == swept.report["test"]


REFUSED = [
    ({"trials": 0}, "`trials=0`: expected a whole number from 1"),
    ({"trials": True}, "`trials=True`"),
    ({"workers": 0}, "`workers=0`"),
    ({"on": "rey"}, "`on='rey'`: expected one of machine, ray. Did you mean 'ray'?"),
    ({"workers": 1000}, "`workers=1000`: expected a whole number from 1 to 64"),
    ({"budget": "soon"}, "`budget='soon'`: expected a duration above 0, such as 20m"),
    ({"budget": 0}, "`budget=0`"),
    ({"budget": "0m"}, "`budget='0m'`"),
    ({"budget": float("nan")}, "`budget=nan`"),
    ({"epoch": 3}, "Unknown setting 'epoch'"),
    ({"abstain_below": 0.9}, "'abstain_below' has no effect here"),
    ({"method": ["lora", "bitfit"]}, "one method at a time, got 2"),
    ({"method": "lroa"}, "There is no method 'lroa'"),
    (
        {"space": {"method": ["lora", "bitfit"]}, "method": "vera"},
        "the space varies the method, among lora, bitfit",
    ),
    ({"rank": 8, "space": {"rank": {"values": [4]}}}, "Unknown setting 'rank'"),
    (
        {"batch_size": 8, "space": {"batch_size": {"values": [4, 8]}}},
        "varies only what is fixed, base, batch_size",
    ),
    ({"space": {"batch_size": {"values": [0]}}}, "`batch_size=0`: expected a number above 0"),
]


@pytest.mark.parametrize(("change", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_refusals(data, tmp_path, change, told):
    arguments = {"space": SPACE, "base": str(TINY), "progress": Progress(), **change}
    with pytest.raises(OptionError) as raised:
        sweep(data, out=tmp_path / "swept", **arguments)
    assert told in str(raised.value)
    assert not (tmp_path / "swept").exists()


def test_the_test_rows_are_read_before_anything_is_trained(data, tmp_path):
    other = write_jsonl(tmp_path / "other.jsonl", [{"text": "a", "label": "unknown"}])
    with pytest.raises(DataError, match="unknown"):
        sweep(data, out=tmp_path / "swept", space=SPACE, test=other, **QUICK)
    assert not (tmp_path / "swept").exists()


def test_optuna_is_needed(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ExtraNotInstalled, match=r"A sweep needs optuna, which is not installed: .*\[sweep\]"):
        sweep(data, out=tmp_path / "swept", **QUICK)


def test_two_processes_do_not_run_the_same_sweep(swept, data):
    import fcntl

    with (swept.folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OptionError, match="Another process runs the sweep"):
            sweep(data, out=swept.folder, space=SPACE, trials=3, resume=True, **QUICK)


def test_the_budget_is_read():
    from keras_peft.sweeping.sweep import _check

    found = {"20m": 1200, "1h30m": 5400, "90": 90, "90s": 90, "1.5h": 5400, "2min": 120, 7: 7, 0.5: 0.5}
    assert {given: _check(1, None, given) for given in found} == found


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_what_is_given_is_not_varied():
    notes = Notes()
    _, _, space = plan(None, keras_peft.LoRA(rank=3), {"batch_size": 4}, ("alpha",), notes)
    assert not {"rank", "batch_size", "alpha"} & {one.name for one in space.parameters}
    assert notes.notes == ["`alpha` and `batch_size` and `rank` are fixed, and not varied"]


def test_the_pooling_is_not_varied_for_tags():
    _, _, space = plan(None, None, {}, (), Notes())
    notes = Notes()
    assert suited(space, tasks.find("single-label"), notes) is space
    varied = suited(space, tasks.find("token-labels"), notes)
    assert {one.name for one in space.parameters} - {one.name for one in varied.parameters} == {"pooling"}
    assert notes.notes == ["`pooling` has no meaning for token-labels, and is not varied"]
    only = replace(space, parameters=tuple(one for one in space.parameters if one.name == "pooling"))
    with pytest.raises(
        OptionError, match="varies only what has no meaning for token-labels; give another `space`"
    ):
        suited(only, tasks.find("token-labels"), notes)


def test_an_option_of_one_method_is_varied_for_the_others():
    _, _, space = plan("methods", keras_peft.LoRA(rank=3), {"pooling": "mean"}, (), Notes())
    labels = {one.label for one in space.parameters}
    assert {"lora.learning_rate", "dora.rank"} <= labels
    assert not {"lora.rank", "pooling"} & labels
    with pytest.raises(OptionError, match=r"`fixed`: rnak: not a setting .* Did you mean 'rank'\?"):
        plan(None, None, {}, ("rnak",), Notes())


def test_a_folder_with_train_and_test(tmp_path):
    from keras_peft.sweeping.sweep import _parted

    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("text,label\n")
    assert _parted(tmp_path, None) == (tmp_path / "train.csv", tmp_path / "test.csv")
    assert _parted(str(tmp_path), "other.csv") == (tmp_path / "train.csv", "other.csv")
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(OptionError, match=r"train\.csv, train\.jsonl, test\.csv; expected one file"):
        _parted(tmp_path, None)


def test_the_page_escapes_what_it_shows(swept):
    report = json.loads(json.dumps(swept.report))
    report["data"]["source"] = "<script>alert(1)</script>"
    report["trials"][1]["reason"] = "<b>"
    page = as_html(report)
    assert "<script" not in page
    assert "<b>&lt;" not in page
    assert "&lt;b&gt;" in page


@pytest.mark.slow
def test_the_page_in_a_browser(swept, context):
    page = context.new_page()
    page.goto((swept.folder / "index.html").as_uri())
    assert page.locator("h2").all_inner_texts() == [
        "Best settings",
        "History",
        "Importance",
        "Score by parameter",
        "All parameters together",
        "Trials",
        "Details",
    ]
    assert page.locator("tbody tr").count() == 3
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_the_command_line(swept, data, unseen, tmp_path, command_line):
    space = tmp_path / "space.toml"
    space.write_text(
        'rank = { values = [4, 8] }\ntargets = { values = ["default", ["attention.query", "ffn.up"]] }\n'
        "learning_rate = { low = 1e-2, high = 3e-2, log = true }\n"
    )
    command = ["sweep", data, "--out", swept.folder, "--space", space, "--trials", 3, "--test", unseen]
    command += ["--base", TINY, "--epochs", 2, "--validation", 0.3]
    code, said, told = command_line(*command, "--resume")
    assert code == 0, told
    assert "3 trials" in said
    assert "the defaults" in said
    assert "On the 30 test rows: accuracy" in said
    assert max(map(len, said.split("Page:")[0].splitlines())) <= 80 or not sys.stdout.isatty()
    code, said, _ = command_line(*command, "--resume", "--json")
    assert code == 0
    assert json.loads(said)["best"] == swept.best
    code, _, told = command_line(*command)
    assert code == 2
    assert "continue it with --resume, replace it with --overwrite, or choose another --out" in told
    code, _, told = command_line("sweep", data, "--out", tmp_path / "x", "--trials", "0")
    assert code == 2
    assert "--trials 0: expected a whole number" in told
    code, _, told = command_line("sweep", data, "--out", tmp_path / "x", "--space", "lroa")
    assert "--space: lroa: No such file" in told
    assert "Did you mean 'lora'?" in told


def test_flags_that_are_given_are_not_varied(data, tmp_path, command_line, monkeypatch):
    from keras_peft.sweeping import sweep as module

    seen = {}

    def remember(data, **options):
        seen.update(options)
        raise OptionError("Enough.")

    monkeypatch.setattr(module, "sweep", remember)
    command_line("sweep", data, "--out", tmp_path / "x", "--rank", 8, "--batch-size", 16, "--class-weights")
    assert seen["fixed"] == ("rank",)
    assert seen["method"] is None
    assert {"batch_size": 16, "class_weights": True}.items() <= seen.items()
    assert not {"epochs", "pooling", "learning_rate", "validation"} & seen.keys()


@pytest.mark.slow
def test_an_interrupted_trial_goes_on_after_its_last_fold(data, tmp_path, monkeypatch):
    from keras_peft.sweeping.study import Study

    settings = {**QUICK, "validation": "folds:2", "epochs": 5, "space": SPACE, "trials": 2}
    whole = sweep(data, out=tmp_path / "whole", **settings)
    report, seen = Study.report, []

    def interrupting(self, trial, rung, score):
        seen.append((trial.number, rung))
        if (trial.number, rung) == (1, 8):  # In the second fold.
            raise KeyboardInterrupt
        return report(self, trial, rung, score)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) as raised:
        patched.setattr(Study, "report", interrupting)
        sweep(data, out=tmp_path / "swept", **settings)
    assert raised.value.__notes__ == ["The trials so far are kept; continue the sweep with `resume=True`."]
    assert [path.name[16:] for path in (tmp_path / "swept" / "interrupted").iterdir()] == [".folds"]
    found = sweep(data, out=tmp_path / "swept", resume=True, **settings)
    left_out = ("trial", "seconds")
    for one, other in zip(found.report["trials"], whole.report["trials"], strict=True):
        assert {k: v for k, v in one.items() if k not in left_out} == {
            k: v for k, v in other.items() if k not in left_out
        }


@pytest.mark.slow
def test_a_trial_that_the_budget_ended_is_continued(data, tmp_path, monkeypatch):
    from keras_peft.sweeping import driver

    settings = {**QUICK, "epochs": 5, "space": SPACE, "trials": 2}
    whole = sweep(data, out=tmp_path / "whole", **settings)
    with monkeypatch.context() as patched:
        # Late from the second report of the second trial on.
        asked = []
        patched.setattr(driver.Driver, "_is_late", lambda self: asked.append(1) or len(asked) > 7)
        first = sweep(data, out=tmp_path / "swept", budget="1h", **settings)
    assert len(first.report["trials"]) == 1
    assert list((tmp_path / "swept" / "interrupted").iterdir())
    found = sweep(data, out=tmp_path / "swept", resume=True, **settings)
    assert [one["weights"] for one in found.report["trials"]] == [
        one["weights"] for one in whole.report["trials"]
    ]
    assert not (tmp_path / "swept" / "interrupted").exists()


@pytest.mark.slow
@pytest.mark.real
def test_a_sweep_of_the_real_base(tmp_path):
    found = sweep(
        ROOT / "examples" / "conversations.jsonl",
        out=tmp_path / "swept",
        space="methods",
        trials=2,
        epochs=1,
        progress=Progress(),
    )
    assert len(found.report["trials"]) == 2
    assert keras_peft.load(found.bundle).predict(["Which one is faster?"])
