"""keras-peft data check: text output, JSON output and exit codes."""

from __future__ import annotations

import functools
import json

import pytest

from conftest import TINY, make_rows, write_jsonl


@pytest.fixture
def run(command_line):
    return functools.partial(command_line, "data", "check")


def test_what_a_person_reads(run, tmp_path):
    write_jsonl(
        tmp_path / "d.jsonl", [*make_rows(40), {"text": "[red] salt &amp; pepper", "label": "Alpha "}]
    )
    code, out, err = run("d.jsonl", "--base", TINY, "--validation", "d.jsonl")
    assert code == 0
    assert "Checking d.jsonl" in err
    assert "d.jsonl: 41 rows, 3 labels" in out
    assert "Letters: Latin 100.0%" in out
    assert "• 1 text contains HTML\n    row 41: [red] salt &amp; pepper" in out
    assert "→ Extract the text" in out
    assert "'alpha' (20), 'Alpha ' (1)" in out
    assert "41 rows of d.jsonl are also in d.jsonl" in out
    assert all(
        len(line) <= 80 for line in out.splitlines() if not line.startswith(("Tokens", "d.jsonl: JSON"))
    )


def test_values_have_a_histogram(run, tmp_path):
    write_jsonl(tmp_path / "d.jsonl", [{"text": f"row {n}", "label": n / 4} for n in range(40)])
    code, out, _ = run("d.jsonl", "--base", TINY)
    assert code == 0
    assert "values 0 to 9.75, mean 4.88" in out
    assert "0 to 0.975" in out


def test_json_and_strict(run, tmp_path):
    write_jsonl(tmp_path / "good.jsonl", make_rows(40))
    write_jsonl(tmp_path / "bad.jsonl", [*make_rows(40), {"text": "", "label": "alpha"}])
    code, out, _ = run("good.jsonl", "--base", TINY, "--similarity", "1", "--strict")
    assert code == 0
    assert "No problems found." in out
    code, out, _ = run("bad.jsonl", "--base", TINY, "--similarity", "1", "--strict", "--json")
    assert code == 1
    told = json.loads(out)
    assert told["rows"] == 41
    assert told["checks"]["oddities"]["findings"] == [
        {
            "title": "1 row has no text",
            "advice": "Add a text or remove them; `skip_bad_rows=True` skips them in training.",
            "rows": [41],
            "samples": [],
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.csv"], "nothing.csv does not exist"),
        (["d.jsonl", "--validation", "d.jsnl"], "Did you mean 'd.jsonl'?"),
        (["d.jsonl", "--base", "minlm"], "There is no base 'minlm'"),
        (["d.jsonl", "--label-column", "lable"], "Did you mean 'label'?"),
        (["d.jsonl", "--similarity", "2"], "--similarity 2: expected"),
        (["d.jsonl", "--bundle", "none", "--base", TINY], "none does not exist"),
    ],
)
def test_a_users_mistake_is_one_sentence(run, tmp_path, arguments, message):
    write_jsonl(tmp_path / "d.jsonl", make_rows(4))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("keras-peft: ")
    assert message in err
