"""The README's commands and Python, run as they stand, on the real default base."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what a checkout has, and `keras-peft` on the path."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def in_place(place, *command):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


@pytest.mark.real
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(place, number):
    language, code = BLOCKS[number]
    if language == "python":
        result = in_place(place, sys.executable, "-c", code)
    elif "make " in code:
        for verb in re.findall(r"make (\w+)", code):
            assert re.search(rf"^{verb}:", (ROOT / "Makefile").read_text(), re.MULTILINE), verb
        return
    else:
        result = in_place(place, "bash", "-euc", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.real
def test_the_real_run_is_as_good_as_the_readme_says(place):
    content = json.loads((place / "demo-bundle" / "bundle.json").read_text())
    assert content["labels"] == ["comparison", "news", "opinion", "question"]
    assert content["base"]["name"] == "minilm"
    assert content["base"]["sha256"].startswith("53aa5117")
    assert content["metrics"]["accuracy"] >= 0.75
    assert content["verification"]["reloaded"]["max_abs_logit_difference"] <= 1e-5


def test_the_sample_data_is_what_the_readme_says():
    rows = [json.loads(line) for line in (ROOT / "examples/conversations.jsonl").read_text().splitlines()]
    assert len(rows) >= 200
    assert {tuple(row) for row in rows} == {("text", "label")}
    labels = [row["label"] for row in rows]
    assert {label: labels.count(label) for label in set(labels)} == dict.fromkeys(
        ("news", "opinion", "comparison", "question"), len(rows) // 4
    )
    assert all(row["text"].startswith("Jon: ") and " Sumit: " in row["text"] for row in rows)
    words = [set(re.findall(r"\w+", row["text"].lower())) - {"jon", "sumit"} for row in rows]
    nearest = max(len(a & b) / len(a | b) for n, a in enumerate(words) for b in words[:n])
    assert nearest < 0.45


def test_every_file_that_the_readme_names_is_there():
    for name in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
