"""The command line: arguments, output on stdout and stderr, and exit codes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import polars as pl
import pytest
import typer

from conftest import TINY, make_rows, write_jsonl
from keras_peft import __version__
from keras_peft.cli.application import COMMANDS, build
from sampling import thorough

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

COMMAND = [sys.executable, "-c", "from keras_peft.cli import main; main()"]


@pytest.fixture
def run(command_line):
    return command_line


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """Runs `train --json`; returns the parsed stdout, stderr and the bundle's folder."""
    out = tmp_path_factory.mktemp("cli") / "bundle"
    flags = [
        "--base",
        str(TINY),
        "--layers",
        "all",
        "--epochs",
        "14",
        "--learning-rate",
        "0.01",
        "--rank",
        "4",
        "--json",
    ]
    result = subprocess.run(
        [*COMMAND, "train", str(data), "--out", str(out), *flags], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr, out


def test_train_says_what_it_did(trained):
    report, said, out = trained
    assert {"accuracy", "macro_f1", "trainable_parameters", "total_parameters", "epochs"} <= set(report)
    assert {"import", "load", "train", "evaluate", "total"} <= set(report["seconds"])
    assert report["peak_rss_mb"] > 50
    assert report["epochs"] == 14
    assert report["bundle"] == str(out)
    assert report["trainable_parameters"] == 3 * 2 * 4 * 32 + 272 + 34
    assert report["parts"][0]["method"]["rank"] == 4
    assert (
        f"lora trains {report['trainable_parameters']:,} of {report['total_parameters']:,} parameters" in said
    )
    assert "attention.query, attention.value in blocks 0, 1, 2 of 3, and the head" in said
    assert "epoch 14 of 14: loss" in said
    assert "TensorFlow" not in said
    assert "oneDNN" not in said


def test_evaluate(run, trained, data):
    _, _, bundle = trained
    code, out, _ = run("evaluate", bundle, data, "--json")
    scores = json.loads(out)
    assert code == 0
    assert scores["accuracy"] >= 0.9
    assert set(scores["labels"]["alpha"]) == {"precision", "recall", "f1", "support"}
    assert sum(map(sum, scores["confusion"])) == scores["rows"] == 60
    code, out, _ = run("evaluate", bundle, data)
    assert code == 0
    assert "macro-F1" in out


def test_predict_texts(run, trained):
    _, _, bundle = trained
    code, out, _ = run("predict", bundle, "the model model", "people people and", "--json")
    predictions = json.loads(out)["predictions"]
    assert code == 0
    assert [p["label"] for p in predictions] == ["alpha", "beta"]
    assert sum(predictions[0]["probabilities"].values()) == pytest.approx(1)
    assert list(json.loads(out)) == ["predictions"]
    code, out, _ = run("predict", bundle, "the model model")
    assert code == 0
    assert "alpha" in out
    assert "the model model" in out


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", *thorough(".tsv", ".parquet")])
def test_predict_a_file(run, trained, tmp_path, suffix):
    _, _, bundle = trained
    rows = [{"id": str(n), **row} for n, row in enumerate(make_rows(50, seed=8))]
    source = tmp_path / f"in{suffix}"
    if suffix == ".jsonl":
        write_jsonl(source, rows)
    elif suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(source)
    else:
        pl.DataFrame(rows).write_csv(source, separator="\t" if suffix == ".tsv" else ",")
    for output in ("out.jsonl", "out.csv", "out.tsv"):
        code, out, _ = run("predict", bundle, "--input", source, "--output", output, "--json")
        assert code == 0
        assert json.loads(out) == {"rows": 50, "output": output}
        if output == "out.jsonl":
            written = [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]
            assert set(written[0]["probabilities"]) == {"alpha", "beta"}
        else:
            with (tmp_path / output).open(newline="") as file:
                written = list(csv.DictReader(file, delimiter="\t" if output.endswith("tsv") else ","))
            assert float(written[0]["probability"]) == pytest.approx(
                float(written[0][f"probability.{written[0]['label']}"])
            )
        assert [row["id"] for row in written] == [row["id"] for row in rows]
        assert [row["input.label"] for row in written] == [row["label"] for row in rows]
        right = sum(row["label"] == row["input.label"] for row in written)
        assert right >= 45
    code, out, _ = run("predict", bundle, "--input", source, "--json")
    assert code == 0
    assert len(json.loads(out)["predictions"]) == 50


# More than are read at once.
MANY = [{"text": f"{number} people", "label": "x"} for number in range(4_100)]


def test_texts_come_from_stdin(trained):
    _, _, bundle = trained
    result = subprocess.run(
        [*COMMAND, "predict", str(bundle), "-", "--json"],
        input="a model\n\nthe people\n",
        capture_output=True,
        text=True,
    )
    assert len(json.loads(result.stdout)["predictions"]) == 2
    result = subprocess.run(
        [*COMMAND, "predict", str(bundle), "-"], input="\n", capture_output=True, text=True
    )
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "stdin has no text to predict" in result.stderr


def test_a_byte_order_mark_is_kept(run, trained, tmp_path):
    _, _, bundle = trained
    (tmp_path / "x.csv").write_text("text;n\na model;1\n", encoding="utf-8-sig")
    assert run("predict", bundle, "--input", tmp_path / "x.csv", "--output", tmp_path / "y.csv")[0] == 0
    content = (tmp_path / "y.csv").read_text(encoding="utf-8")
    assert content.startswith("\ufefftext,n,label,")


def test_what_was_read_is_said_in_one_line(run, trained, tmp_path):
    _, _, bundle = trained
    rows = [f"{row['text']};{row['label']}" for row in make_rows(20)]
    (tmp_path / "x.csv").write_text("\n".join(["Text;Label", *rows]), encoding="utf-8")
    line = 'x.csv: CSV, separator ";"; text from "Text", labels from "Label"; single-label ('
    code, _, said = run(
        "evaluate", bundle, tmp_path / "x.csv", "--text-column", "Text", "--label-column", "Label"
    )
    assert code == 0
    assert line in said
    for command in (["data", "check"], ["data", "split", "--out", tmp_path / "parts", "--validation", "0"]):
        code, out, said = run(*command[:2], tmp_path / "x.csv", *command[2:])
        assert (code, line in out + said) == (0, True)


@pytest.mark.parametrize(
    ("words", "completed"), [("keras-peft tr", "train"), ("keras-peft train --label-col", "--label-columns")]
)
def test_words_are_completed(words, completed):
    environment = {**os.environ, "_KERAS_PEFT_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    result = subprocess.run([*COMMAND], env=environment, capture_output=True, text=True)
    assert completed in result.stdout.split()


def test_a_large_file_is_streamed(run, trained, tmp_path):
    _, _, bundle = trained
    rows = MANY
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    code, out, _ = run("predict", bundle, "--input", source, "--output", "out.jsonl", "--json")
    assert (code, json.loads(out)["rows"]) == (0, 4_100)
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in written] == [row["text"] for row in rows]


def test_a_bad_row_far_down_leaves_no_output(run, trained, tmp_path):
    _, _, bundle = trained
    source = write_jsonl(tmp_path / "in.jsonl", [*MANY, {"text": " ", "label": "x"}])
    code, _, err = run("predict", bundle, "--input", source, "--output", "out.csv")
    assert code == 2
    assert "row 4101 has no text" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
    code, out, _ = run(
        "predict", bundle, "--input", source, "--output", "out.csv", "--skip-bad-rows", "--json"
    )
    assert (code, json.loads(out)["rows"]) == (0, 4_100)
    code, _, err = run("predict", bundle, "--input", source, "--output", "out.csv")
    assert code == 2
    assert "out.csv exists" in err


def test_columns_come_through_whatever_they_are_called(run, trained, tmp_path):
    _, _, bundle = trained
    rows = [
        {"text": "the model", "label": "x", "input.label": "y"},
        {"text": "people", "late": "z", "probability": "p"},
    ]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    assert run("predict", bundle, "--input", source, "--output", "out.csv")[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["input.input.label"] for row in written] == ["x", ""]
    assert [row["input.label"] for row in written] == ["y", ""]
    assert [row["late"] for row in written] == ["", "z"]
    assert written[1]["input.probability"] == "p"
    assert len(written[0]) == len(set(written[0]))


def test_a_file_is_answered_line_by_line(run, trained, tmp_path):
    _, _, bundle = trained
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "the model\nmodel"}, {"text": "people"}])
    code, out, _ = run("predict", bundle, "--input", source)
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["alpha", "beta"]
    assert out.splitlines()[0].endswith("\tthe model model")


def test_a_late_fault_leaves_no_half_object(run, trained, tmp_path):
    _, _, bundle = trained
    source = write_jsonl(tmp_path / "in.jsonl", [*MANY, {"text": "", "label": "x"}])
    code, out, err = run("predict", bundle, "--input", source, "--json")
    assert (code, out) == (2, "")
    assert "row 4101 has no text" in err
    write_jsonl(source, [{"text": " "}])
    code, out, err = run("predict", bundle, "--input", source, "--skip-bad-rows")
    assert (code, out) == (2, "")
    assert "has no row with text" in err


def test_show(run, trained):
    _, _, bundle = trained
    code, out, _ = run("show", bundle, "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["labels"] == ["alpha", "beta"]
    assert (shown["report"]["validation"]["rows"], shown["report"]["data"]["folds"]) == (60, 3)
    code, out, _ = run("show", bundle)
    assert code == 0
    assert "rank 4" in out


def test_methods_and_bases(run):
    code, out, _ = run("methods", "--json")
    assert code == 0
    methods = json.loads(out)["methods"]
    assert "lora" in [method["name"] for method in methods]
    code, out, _ = run("methods", "lora", "--json")
    (lora,) = json.loads(out)["methods"]
    assert {p["name"]: p["default"] for p in lora["parameters"]}["rank"] == 8
    assert "arxiv" in lora["paper"]
    code, out, _ = run("methods", "lora")
    assert "--rank-stabilized" in out
    code, out, _ = run("bases", "--json")
    assert json.loads(out)["bases"][0]["name"] == "minilm"
    code, out, _ = run("bases")
    assert "hf://owner/name" in out


def test_help_and_version(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("train", "evaluate", "predict", "show", "methods", "bases"):
        assert command in out
    assert run("--version")[1].strip() == __version__
    code, out, _ = run("train", "--method", "lora", "--help")
    assert code == 0
    assert "--rank" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.csv", "--out", "b"], "missing.csv does not exist; expected a file"),
        (["train", "d.jsonl"], "Missing option '--out'"),
        (["train", "d.jsonl", "--out", "b", "--method", "lroa"], "Did you mean 'lora'?"),
        (["train", "d.jsonl", "--out", "b", "--method=lroa"], "Did you mean 'lora'?"),
        (["train", "d.jsonl", "--out", "b", "--epoch", "3"], "--epochs"),
        (
            ["train", "d.jsonl", "--out", "b", "--epochs", "many"],
            "'--epochs': Input should be a valid integer",
        ),
        (["train", "d.jsonl", "--out", "b", "--epochs", "0"], "--epochs 0: expected a number above 0"),
        (["train", "d.jsonl", "--out", "b", "--rank", "0"], "rank must be at least 1, got 0"),
        (["train", "d.jsonl", "--out", "b", "--layers", "lats:2"], "Did you mean 'last:2'?"),
        (["train", "d.jsonl", "--out", "b", "--validation", "v.csv"], "v.csv does not exist"),
        (["train", "d.jsonl", "--out", "b", "--base", "minlm"], "Did you mean 'minilm'?"),
        (["train", "d.jsonl", "--out", "d.jsonl"], "d.jsonl exists"),
        (["train", "d.jsonl", "--out", "b", "--text-column", "txet"], "Did you mean 'text'?"),
        (["train", "one.jsonl", "--out", "b"], "all 3 rows have the label 'x'"),
        (["train", "empty.jsonl", "--out", "b"], "is empty"),
        (["evaluate", "nothing", "d.jsonl"], "nothing does not exist"),
        (["predict", "nothing", "text"], "nothing does not exist"),
        (["predict", "nothing"], "Pass either texts or --input FILE"),
        (["predict", "nothing", "text", "--input", "d.jsonl"], "Pass either texts or --input FILE"),
        (["predict", "nothing", "text", "--output", "o.csv"], "--output requires --input"),
        (["predict", "nothing", "--input", "d.jsonl", "--output", "o.xlsx"], "expected a file that ends in"),
        (["predict", "nothing", " "], "A text to predict is empty or not valid UTF-8"),
        (["show", "nothing"], "nothing does not exist"),
        (["methods", "lroa"], "Did you mean 'lora'?"),
        (["tarin"], "No such command 'tarin'. Did you mean 'train'?"),
        (["show", "x", "--method", "lroa"], "No such option: --method"),
        (["show", "x" * 300], "File name too long"),
        (["train", "d.jsonl", "--out", "b", "--seed", "-1"], "--seed -1: expected an integer"),
    ],
)
def test_a_users_mistake_is_one_sentence(run, tmp_path, arguments, message):
    write_jsonl(tmp_path / "d.jsonl", make_rows(20))
    write_jsonl(tmp_path / "one.jsonl", [{"text": t, "label": "x"} for t in "abc"])
    (tmp_path / "empty.jsonl").touch()
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    said = err.strip().splitlines()[-1]
    assert said.startswith("keras-peft: ")
    assert message in said
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("number", thorough(signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
def test_an_interrupted_run_leaves_no_bundle_and_what_was_trained(tmp_path, data, number):
    out = tmp_path / "bundle"
    flags = ["--base", str(TINY), "--epochs", "100000", "--validation", "0.2"]
    process = subprocess.Popen(
        [*COMMAND, "train", str(data), "--out", str(out), *flags], stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "epoch 2 of" in line:
            break
    process.send_signal(number)
    said = process.stderr.read()
    code = process.wait(timeout=60)
    process.stderr.close()
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    if number != signal.SIGKILL:
        assert (
            "Interrupted. The training up to the last complete epoch is kept; continue it with --resume."
            in said
        )
    assert "Traceback" not in said
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left == {"bundle.partial", "logs"}


@pytest.mark.slow
def test_output_that_nobody_reads_any_more(trained, tmp_path):
    _, _, bundle = trained
    source = write_jsonl(tmp_path / "in.jsonl", make_rows(400, seed=2))
    command = " ".join(
        ["exec", *map(repr, COMMAND), "predict", str(bundle), "--input", str(source), "--json"]
    )
    result = subprocess.run(
        ["bash", "-c", f"({command}) | head -c 20"],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert result.stdout.startswith('{"predictions": [')
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [
        ([], set()),
        (["--help"], set()),
        (["--version"], set()),
        (["tarin"], set()),
        (["train", "--help"], {"train"}),
        (["predict", "--help"], {"predict"}),
        (["methods", "--json"], {"methods"}),
        (["data", "generate", "--help"], {"data"}),
    ],
)
def test_quick_answers_import_only_what_they_need(arguments, commands):
    """Checks the imported modules, because times vary."""
    code = f"import sys\nfrom keras_peft.cli import main\ntry: main({arguments})\nexcept SystemExit: pass\n"
    show = "sys.stderr.write('\\n' + ' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code + show], capture_output=True, text=True, check=True)
    imported = set(result.stderr.splitlines()[-1].split())
    assert "keras_peft.cli" in imported
    assert not {"keras", "tensorflow", "jax", "torch", "numpy", "polars", "sklearn"} & imported
    assert {name for name in COMMANDS if f"keras_peft.cli.{name}" in imported} == commands


def test_the_list_of_commands_says_what_they_say_themselves():
    whole = typer.main.get_command(build([])).commands
    listed = typer.main.get_command(build(["--help"])).commands
    assert {name: found.help for name, found in listed.items()} == COMMANDS
    assert {name: found.help for name, found in whole.items()} == COMMANDS
    assert list(whole) == list(listed) == list(COMMANDS)


def test_a_moved_bundle_still_works(run, trained, tmp_path):
    _, _, bundle = trained
    moved = shutil.copytree(bundle, tmp_path / "elsewhere")
    code, out, _ = run("predict", moved, "the model model", "--json")
    assert code == 0
    assert json.loads(out)["predictions"][0]["label"] == "alpha"


def test_brackets_in_texts_are_no_markup(run, trained):
    _, _, bundle = trained
    code, out, _ = run("predict", bundle, "[bold]model[/bold] :smile: [/]")
    assert code == 0
    assert "[bold]model[/bold] :smile: [/]" in out


@pytest.mark.parametrize(
    "output", [["methods", "--json"], ["--version"]]
)  # More output than fits in a pipe's buffer, and less.
def test_a_closed_pipe_is_not_an_error_message(output):
    process = subprocess.Popen([*COMMAND, *output], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (1, 141)
    process.stderr.close()
