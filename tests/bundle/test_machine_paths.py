"""What a bundle says of the machine that it was made on, and of settings that do not fit."""

from __future__ import annotations

import json
import tomllib

import pytest

from conftest import TINY
from keras_peft import bundle as bundles
from keras_peft import pushing
from keras_peft.errors import BundleMismatch
from serve.bundles import write_bundle

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


def test_what_is_pushed_names_no_folder(bundle, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    files, _ = pushing._files_of(bundle, scratch)
    for name in ("bundle.json", "report.json", "report.html", "README.md", "run.toml"):
        text = files[name].read_text()
        assert str(TINY) not in text, name
        assert str(bundle.parent) not in text, name
        assert TINY.name in text, name
    flags = tomllib.loads(files["run.toml"].read_text())
    assert flags["base"] == TINY.name
    assert flags["data"] == "data.jsonl"


def test_what_is_pushed_is_a_valid_bundle(bundle, tmp_path):
    scratch, there = tmp_path / "scratch", tmp_path / "there"
    scratch.mkdir()
    there.mkdir()
    files, _ = pushing._files_of(bundle, scratch)
    for name, file in files.items():
        (there / name).write_bytes(file.read_bytes())
    assert bundles.read(there).base_name == TINY.name
    assert str(TINY) in (bundle / "bundle.json").read_text()


def test_run_toml_has_no_absolute_path(bundle):
    assert not any(
        isinstance(value, str) and value.startswith("/")
        for value in tomllib.loads((bundle / "run.toml").read_text()).values()
    )


@pytest.mark.parametrize("length", [1, 2, -5, 10**30])
def test_a_length_that_does_not_fit_is_not_an_argument(tmp_path, length):
    folder = write_bundle(tmp_path / "b", max_length=length)
    with pytest.raises(BundleMismatch) as raised:
        bundles.read(folder).encoder()
    message = str(raised.value)
    assert "`" not in message
    assert message.startswith(
        (f"{folder} does not fit its own tokenizer", f"{folder} is not the bundle that")
    )
    assert str(length) in message


def test_the_command_line_does_not_speak_of_a_flag(command_line, tmp_path):
    folder = write_bundle(tmp_path / "b", max_length=1)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    code, _, said = command_line("predict", folder, "--input", "rows.jsonl")
    assert code == 2
    assert "--max-length" not in said
    assert len(said.strip().splitlines()[-1:]) == 1
    assert "Traceback" not in said
