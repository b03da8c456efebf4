"""Few rows: scored on folds, trained on all of them, with a head that starts as a linear model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft import attach, sources, tasks
from keras_peft.errors import OptionError
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.outputs import compute_outputs
from keras_peft.training import prepare
from keras_peft.training.head_start import HeadStart
from keras_peft.training.settings import FEW_ROWS, MANY_ROWS, SOME_ROWS, Settings

QUICK = {"base": str(TINY), "epochs": 2, "pooling": "mean"}


@pytest.fixture(scope="module")
def on_folds(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("folds") / "bundle"
    return keras_peft.fine_tune(data, out=out, method=keras_peft.LoRA(dropout=0.1), **QUICK)


def test_every_row_is_scored(on_folds):
    report = on_folds.report
    assert (report["data"]["training_rows"], report["data"]["folds"]) == (60, 3)
    assert report["validation"]["rows"] == 60
    low, high = report["validation"]["interval"]
    assert low < report["validation"]["accuracy"] < high
    assert 'validation = "folds:3"' in (on_folds.bundle / "run.toml").read_text()
    assert (
        "60 rows, each scored by a model trained on other rows (3 folds)"
        in (on_folds.bundle / "README.md").read_text()
    )


def test_the_result_is_that_of_training_on_all_rows(on_folds, tmp_path, data):
    other = keras_peft.fine_tune(
        data, out=tmp_path / "b", method=keras_peft.LoRA(dropout=0.1), validation=data, **QUICK
    )
    name = "adapter.safetensors"
    assert (on_folds.bundle / name).read_bytes() == (other.bundle / name).read_bytes()
    assert on_folds.report["validation"]["accuracy"] != other.report["validation"]["accuracy"]


@pytest.mark.slow
def test_rows_are_scored_by_models_that_did_not_see_them(tmp_path):
    # The label is random, so only a model that saw a row can be right about it.
    rows = make_rows(40)
    for row, label in zip(rows, np.random.default_rng(0).permutation(["a", "b"] * 20), strict=True):
        row["label"] = str(label)
    path = write_jsonl(tmp_path / "random.jsonl", rows)
    made = keras_peft.fine_tune(
        path, out=tmp_path / "b", base=str(TINY), pooling="mean", epochs=30, layers="all", learning_rate=2e-2
    )
    seen = keras_peft.load(made.bundle).evaluate(keras_peft.read_examples(path)).metrics["accuracy"]
    assert seen > 0.8
    assert made.report["validation"]["accuracy"] < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multi-label", "regression", "pairs", "token-labels"])
def test_other_tasks(tmp_path, task):
    words = {"alpha": 1.5, "beta": -2.0}
    rows = {
        "multi-label": lambda row: {"text": row["text"], "labels": [row["label"]]},
        "regression": lambda row: {"text": row["text"], "label": words[row["label"]]},
        "pairs": lambda row: {"text_a": row["text"], "text_b": "the model", "label": row["label"]},
        "token-labels": lambda row: {
            "tokens": row["text"].split(),
            "tags": ["B-x" if word in ("model", "people") else "O" for word in row["text"].split()],
        },
    }[task]
    path = write_jsonl(tmp_path / "rows.jsonl", [rows(row) for row in make_rows(24)])
    pooling = {} if task == "token-labels" else {"pooling": "max"}
    made = keras_peft.fine_tune(path, out=tmp_path / "b", base=str(TINY), epochs=1, **pooling)
    assert made.report["validation"]["rows"] == 24
    assert len(made.report["validation"]["interval"]) == 2
    assert keras_peft.load(made.bundle).task.pooling == (pooling.get("pooling"))


def test_the_head_starts_as_a_logistic_regression():
    base = sources.load(str(TINY))
    rows = make_rows(20, labels=("alpha", "beta", "gamma"))
    task = tasks.find("single-label").from_labels([row["label"] for row in rows]).with_pooling("mean")
    model = attach.adapt(base.encoder, keras_peft.LoRA(), head=task.head(base.dim), pooling="mean")
    tokens = task.input.encoder(base.tokenizer, 32, long_text="cut")([row["text"] for row in rows])
    targets = task.targets([row["label"] for row in rows])
    start = HeadStart(model, task, tokens, targets)
    with model.without_head():
        vectors = compute_outputs(Inference(model, tokens.signature), tokens)
    for texts in (np.arange(20), np.arange(12)):
        start.assign(texts)
        scale = StandardScaler().fit(vectors[texts])
        fitted = LogisticRegression(C=1e-3).fit(scale.transform(vectors[texts]), targets[texts])
        outputs = compute_outputs(Inference(model, tokens.signature), tokens)
        np.testing.assert_allclose(
            task.probabilities(outputs), fitted.predict_proba(scale.transform(vectors)), atol=1e-3
        )


def test_how_rows_are_validated_by_default():
    assert Settings().folds(FEW_ROWS - 1) == 3
    assert Settings().folds(2) == 2
    assert Settings().folds(FEW_ROWS) == 2
    assert Settings().folds(SOME_ROWS) is None
    assert Settings(validation=0.2).folds(10) is None
    assert Settings(validation="folds:5").folds(10_000) == 5


def test_what_does_not_fit_is_refused(tmp_path, data):
    for folds in (1, 61):
        with pytest.raises(OptionError, match=f"`validation='folds:{folds}'`: expected from 2 folds"):
            keras_peft.fine_tune(data, out=tmp_path / "b", validation=f"folds:{folds}", **QUICK)
    with pytest.raises(OptionError, match="`pooling='median'`: expected one of auto, first-token, mean, max"):
        Settings(pooling="median")
    words = [{"tokens": ["the", "model"], "tags": ["O", tag]} for tag in ("B-x", "B-y", "B-x", "B-y")]
    path = write_jsonl(tmp_path / "w.jsonl", [{**row, "id": n} for n, row in enumerate(words)])
    with pytest.raises(OptionError, match="the head for token-labels reads all vectors; omit it"):
        keras_peft.fine_tune(path, out=tmp_path / "b", **QUICK)


@pytest.mark.slow
def test_the_choice_of_the_pooling(tmp_path, data):
    """A base that declares a pooling gets it, and the plan, the report and run.toml say so."""
    import shutil

    folder = tmp_path / "base"
    shutil.copytree(TINY, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    made = keras_peft.fine_tune(data, out=tmp_path / "b", base=str(folder), epochs=1)
    assert made.report["settings"]["pooling"] == "max"
    assert 'pooling = "max"' in (made.bundle / "run.toml").read_text()
    plain = keras_peft.fine_tune(data, out=tmp_path / "c", base=str(TINY), epochs=1)
    assert plain.report["settings"]["pooling"] == "first-token"


@pytest.mark.parametrize(("rows", "pooling"), [(MANY_ROWS - 1, "max"), (MANY_ROWS, "first-token")])
def test_many_rows_are_read_by_their_first_token(rows, pooling):
    base = replace(sources.load(str(TINY)), pooling="max")
    assert prepare._pooling(base, Settings(), rows) == pooling
    assert prepare._pooling(base, Settings(pooling="mean"), rows) == "mean"
