"""Strings of others reach the terminal in a visible form, and JSON exactly."""

from __future__ import annotations

import json

import pytest

from conftest import TINY, make_rows, write_jsonl
from keras_peft.printable import printable

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

STRANGE = "\x1b]0;owned\x07\x9b31m\u202e[red]"
LABELS = (f"a{STRANGE}", f"b{STRANGE}")


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Rows, and the bundle trained on them, whose labels and texts act on a terminal."""
    import keras_peft

    folder = tmp_path_factory.mktemp("strange")
    rows = [
        {"text": f"{row['text']} {STRANGE}", "label": LABELS[number % 2]}
        for number, row in enumerate(make_rows(30))
    ]
    data = write_jsonl(folder / "rows.jsonl", rows)
    keras_peft.fine_tune(data, out=folder / "bundle", base=str(TINY), epochs=1)
    return data, folder / "bundle"


@pytest.mark.parametrize(
    "command",
    [
        "show BUNDLE",
        "evaluate BUNDLE DATA",
        "predict BUNDLE TEXT",
        "predict BUNDLE --input DATA",
        "explain BUNDLE TEXT",
        "label BUNDLE DATA --out more.csv --next 3 --text-column label",
        "data check DATA",
        "data split DATA --out parts",
        "predict BUNDLE --input TEXT",
        "data check TEXT",
        "show TEXT",
        "methods TEXT",
        "predict BUNDLE TEXT --engine TEXT",
        "predict BUNDLE --TEXT",
        "train DATA --out b --base TEXT",
        "push BUNDLE TEXT",
    ],
)
def test_nothing_acts_on_the_terminal(command_line, strange, command):
    data, bundle = strange
    values = {"BUNDLE": str(bundle), "DATA": str(data), "TEXT": f"x {STRANGE}", "--TEXT": f"--{STRANGE}"}
    _, out, said = command_line(*(values.get(word, word) for word in command.split()))
    shown = out + said
    assert shown.strip()
    assert printable(shown, lines=True) == shown


def test_json_is_exact(command_line, strange):
    data, bundle = strange
    code, out, _ = command_line("show", bundle, "--json")
    assert code == 0
    assert json.loads(out)["labels"] == list(LABELS)
    assert printable(out, lines=True) == out
    code, out, _ = command_line("predict", bundle, "--input", data, "--json")
    assert code == 0
    assert {one["label"] for one in json.loads(out)["predictions"]} <= set(LABELS)
    assert printable(out, lines=True) == out


def test_labels_are_shown_whole(command_line, strange):
    _, out, _ = command_line("predict", strange[1], "--input", strange[0])
    assert r"\x1b]0;owned\x07\x9b31m\u202e[red]" in out


@pytest.mark.parametrize("flag", ["--escape-formulas", "--no-escape-formulas"])
def test_predictions_are_no_formulas(command_line, bundle, tmp_path, flag):
    (tmp_path / "rows.csv").write_text("text,@n,score\n=the model,=1,-1.5\n")
    code, _, said = command_line("predict", bundle, "--input", "rows.csv", "--output", "out.csv", flag)
    assert code == 0, said
    header, row = (tmp_path / "out.csv").read_text().splitlines()
    mark = "'" if flag == "--escape-formulas" else ""
    assert header.startswith(f"text,{mark}@n,score,")
    assert row.startswith(f"{mark}=the model,{mark}=1,-1.5,")
