"""keras-peft explain."""

from __future__ import annotations

import functools
import json
import re

import pytest


@pytest.fixture
def run(command_line):
    return functools.partial(command_line, "explain")


def test_the_strongest_words_are_read_without_colour(run, bundle):
    code, out, _ = run(bundle, "the model and you", "--label", "alpha")
    assert code == 0
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith("alpha 0.")
    assert "beta 0." in lines[0]
    assert lines[1] == "the model and you"
    first = next(line for line in lines if line.startswith("│"))
    assert re.search(r" [░ ]{10}│[█ ]{10} +│ +[+-]\d\.\d\d │ +0\.\d{3} │$", first)


def test_json_has_all_of_it(run, bundle):
    code, out, _ = run(bundle, "the model", "people", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["unit"] == "log-odds"
    assert [one["text"] for one in said["explanations"]] == ["the model", "people"]
    assert set(said["explanations"][0]["words"][1]) == {"start", "end", "text", "part", "weight", "without"}


def test_a_page_is_written_and_kept(run, bundle, tmp_path):
    code, _, said = run(bundle, "the model", "--html", "page.html")
    assert code == 0
    assert "Written to page.html" in said
    assert "model" in (tmp_path / "page.html").read_text(encoding="utf-8")
    code, _, said = run(bundle, "people", "--html", "page.html")
    assert code == 2
    assert "page.html exists" in said
    assert run(bundle, "people", "--html", "page.html", "--overwrite")[0] == 0
    assert "people" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["the model", "--label", "alhpa"], "Did you mean 'alpha'?"),
        (["the model", "--html", "nowhere/page.html"], "the folder nowhere does not exist"),
        ([" "], "are empty"),
        ([], "Missing argument"),
    ],
)
def test_mistakes_are_one_line(run, bundle, arguments, message):
    code, out, said = run(bundle, *arguments)
    assert (code, out) == (2, "")
    assert message in said
    assert said.rstrip().splitlines()[-1].startswith("keras-peft: ")
