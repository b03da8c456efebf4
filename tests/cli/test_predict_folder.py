"""`keras-peft predict` into a folder of parts."""

from __future__ import annotations

import json

import pytest

from conftest import make_rows, write_jsonl
from keras_peft.cli.predict_folder import is_folder
from keras_peft.cli.process import Interrupted
from keras_peft.sharding import parts
from serve.bundles import write_bundle


@pytest.fixture
def here(tmp_path, command_line):
    """The working directory, with a bundle and two files."""
    write_bundle(tmp_path / "tiny", scale=2.0, seed=6)
    (tmp_path / "rows").mkdir()
    for number in range(2):
        write_jsonl(tmp_path / "rows" / f"{number}.jsonl", make_rows(20, seed=number))
    return tmp_path


ARGUMENTS = ("predict", "tiny", "--input", "rows/*.jsonl", "--output", "out/", "--rows-per-shard", "10")


def test_a_folder_is_written_and_summed_up(here, command_line):
    code, out, err = command_line(*ARGUMENTS)
    assert (code, err.count("Traceback")) == (0, 0)
    assert "out/: 4 parts with 40 rows; " in out
    assert "alpha" in out
    assert "40 of 40 rows" in err
    code, out, _ = command_line(*ARGUMENTS, "--json")
    found = json.loads(out)
    assert (code, found["output"], found["rows"], found["found_rows"], found["parts"]) == (
        0,
        "out/",
        40,
        40,
        4,
    )
    assert sum(found["labels"].values()) == 40


def test_an_interrupted_command_goes_on(here, command_line, monkeypatch):
    write, seen = parts._write_file, []

    def stopping(path, predicted, plan):
        seen.append(path)
        if len(seen) == 3:
            raise Interrupted(2)
        write(path, predicted, plan)

    monkeypatch.setattr(parts, "_write_file", stopping)
    code, _, err = command_line(*ARGUMENTS)
    assert code == 130
    assert err.endswith(
        "keras-peft: Interrupted. The finished parts are kept in out; the same command goes on with the others.\n"
    )
    monkeypatch.undo()
    monkeypatch.chdir(here)
    code, out, _ = command_line(*ARGUMENTS)
    assert code == 0
    assert "out/: 4 parts with 40 rows, 20 of them by an earlier run; " in out
    assert not list((here / "out").glob(".part*"))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("out/", True),
        ("out", True),
        ("there.csv", True),
        ("out.csv", False),
        ("out.JSONL", False),
        ("s3://bucket/out", True),
        ("memory://out/", True),
    ],
)
def test_an_output_is_a_folder_unless_it_ends_as_a_file(tmp_path, monkeypatch, output, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").mkdir()
    assert is_folder(output) is expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--output", "o.parquet"], "expected a file that ends in .csv, .tsv, .jsonl, or a folder of parts"),
        (["--output", "s3://bucket/o.csv"], "or a folder of parts, such as s3://bucket/o.csv/"),
        (["--output", "o.csv", "--workers", "2"], "--workers 2 is for a folder of parts"),
        (["--output", "o.csv", "--on", "ray"], "--on ray is for a folder of parts"),
        (["--input", "rows/*.jsonl", "--output", "o.csv"], "needs a folder as --output"),
        (["--input", "rows/*.jsonl"], "needs a folder as --output"),
        (["--output", "out", "--on", "cloud"], "--on cloud: expected one of machine, ray."),
        (["--output", "out", "--format", "cvs"], "--format cvs: expected one of csv, tsv, jsonl, parquet."),
        (["rows/1.jsonl"], "put a pattern in quotes"),
    ],
)
def test_a_mistake_is_one_sentence(here, command_line, arguments, told):
    given = [] if "--input" in arguments else ["--input", "rows/0.jsonl"]
    code, out, err = command_line("predict", "tiny", *arguments, *given)
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]
