"""Configuration files with flags, and the run.toml of a bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib

import pytest
import tomli_w

import keras_peft
from conftest import TINY
from keras_peft.cli import config, main, supervision
from keras_peft.training.fine_tune import fine_tune
from sampling import thorough

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return ended.value.code, capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"method": keras_peft.LoRA(rank=3, dropout=0.2), "layers": "last:1", "label_smoothing": 0.05},
        *thorough(
            {
                "method": keras_peft.PromptTuning(tokens=2, initialization="text", text="the people"),
                "class_weights": True,
            },
            {"method": keras_peft.LinearProbe(), "patience": 3, "gradient_accumulation": 2},
            {"targets": [r"/query$", r"/value$"], "layers": [-1], "batch_size": 7},
        ),
    ],
)
def test_a_bundle_repeats_its_run(tmp_path, capsys, data, settings):
    fine_tune(data, out=tmp_path / "b", base=str(TINY), epochs=2, seed=5, **settings)
    code, said = run(
        capsys, "train", "--config", tmp_path / "b" / "run.toml", "--out", tmp_path / "again", "--json"
    )
    assert code == 0, said.err
    first, second = ((tmp_path / name / "adapter.safetensors").read_bytes() for name in ("b", "again"))
    assert first == second
    one, other = (tomllib.loads((tmp_path / name / "run.toml").read_text()) for name in ("b", "again"))
    assert one == other


def test_paths_are_relative_to_the_bundle(tmp_path, capsys, data, monkeypatch):
    shutil.copy(data, tmp_path / "rows.jsonl")
    fine_tune(tmp_path / "rows.jsonl", out=tmp_path / "b", base=str(TINY), epochs=1)
    content = (tmp_path / "b" / "run.toml").read_text()
    assert 'data = "../rows.jsonl"' in content
    assert not [value for value in tomllib.loads(content).values() if str(value).startswith("/")]
    monkeypatch.chdir(tmp_path / "b")
    assert run(capsys, "train", "--config", "run.toml", "--out", tmp_path / "again")[0] == 0


def test_flags_win(tmp_path, capsys, data):
    file = tmp_path / "run.toml"
    file.write_text(
        f'data = "{data}"\nbase = "{TINY}"\nepochs = 1\nmethod = "ia3"\nout = "{tmp_path / "b"}"\n'
    )
    assert run(capsys, "train", "--config", file, "--epochs", 2)[0] == 0
    report = keras_peft.load(tmp_path / "b").bundle.report()
    assert report["settings"]["epochs"] == 2
    assert report["parts"][0]["method"]["name"] == "ia3"
    assert run(capsys, "train", f"--config={file}", "--method", "lora", "--rank", 2, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory; expected a .toml file"),
        ("epochs = ", "is not valid TOML"),
        ("#" * (5 << 20), "has more than 4,194,304 bytes"),
        ("epochs = " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
        ("epoch = 3", "unknown flags: epoch. Did you mean 'epochs'?"),
        ('method = "lora"\ntokens = 3', "unknown flags: tokens"),
        ("[train]\nepochs = 3", "unknown flags: train"),
        ("epochs = [3]", "epochs: expected a word, a number"),
        ('method = "lara"', "no method 'lara'"),
        ('epochs = "many"', "Invalid value for '--epochs'"),
    ],
)
def test_what_cannot_be_used(tmp_path, capsys, content, message):
    file = tmp_path / "run.toml"
    if content is not None:
        file.write_text(content)
    code, said = run(capsys, "train", "data.csv", "--out", tmp_path / "b", "--config", file)
    assert code == 2
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_cannot_be_a_path_stays_as_it_is(tmp_path, name):
    file = tmp_path / "run.toml"
    file.write_text(tomli_w.dumps({"data": name}))
    assert config.read(["train", "--config", str(file)]) == {"data": name}


@pytest.mark.parametrize(
    ("content", "flags", "watched"),
    [
        ("distributed = true", [], True),
        ("heartbeat = 3", ["--distributed"], True),
        ("distributed = true", ["--help"], False),
        ("distributed = false", [], False),
    ],
)
def test_a_training_with_others_is_watched_wherever_it_is_said(
    tmp_path, capsys, monkeypatch, content, flags, watched
):
    (tmp_path / "run.toml").write_text(content)
    calls = []
    monkeypatch.setattr(supervision, "watch", lambda arguments: calls.append(arguments) or 7)
    given = [
        "train",
        "missing.csv",
        "--out",
        str(tmp_path / "b"),
        "--config",
        str(tmp_path / "run.toml"),
        *flags,
    ]
    code, _ = run(capsys, *given)
    assert calls == [given] * watched
    assert (code == 7) == watched


def test_a_watched_training_imports_nothing_from_the_working_directory(tmp_path):
    (tmp_path / "tempfile.py").write_text("raise SystemExit('It was imported.')")
    code = "from keras_peft.cli import main; main()"
    arguments = ["train", "missing.csv", "--out", "b", "--distributed"]
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "It was imported." not in ended.stderr
    assert ended.stderr.startswith("keras-peft: ")


def test_a_comparison_has_settings_in_a_file(tmp_path, capsys, data, monkeypatch):
    (tmp_path / "test.jsonl").write_bytes(data.read_bytes())
    file = tmp_path / "compare.toml"
    file.write_text(
        'methods = "words,lora(rank=4)"\nseeds = 1\nepochs = 3\ntest = "test.jsonl"\nworker-mb = 900\n'
    )
    seen = {}
    from keras_peft.comparing import compare as module

    monkeypatch.setattr(module, "compare", lambda data, **given: seen.update(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(capsys, "compare", data, "--config", file, "--out", tmp_path / "out", "--seeds", 2)
    assert (seen["methods"], seen["seeds"], seen["epochs"]) == ("words,lora(rank=4)", 2, 3)
    assert (seen["test"], seen["worker_mb"]) == (tmp_path / "test.jsonl", 900)
    file.write_text("learning-rate = 0.1\n")
    code, said = run(capsys, "compare", data, "--config", file, "--out", tmp_path / "out")
    assert (code, "unknown flags: learning-rate" in said.err) == (2, True)
