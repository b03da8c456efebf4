"""Self-training: texts without labels, and whether they are kept."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft import tasks
from keras_peft.data.examples import read_examples
from keras_peft.data.unlabelled import read_unlabelled
from keras_peft.errors import DataError, OptionError
from keras_peft.training import rounds
from keras_peft.training.self_training import WEIGHT, WeightedRows, described, surest

QUICK = {"base": str(TINY), "epochs": 2, "pooling": "mean", "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    rows = [{"text": row["text"], "id": n} for n, row in enumerate(make_rows(30, seed=3))]
    return write_jsonl(tmp_path_factory.mktemp("texts") / "texts.jsonl", rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data, texts):
    out = tmp_path_factory.mktemp("self") / "bundle"
    return keras_peft.fine_tune(data, out=out, unlabelled=texts, **QUICK)


def test_the_report_says_what_was_used(trained):
    told = trained.report["self_training"]
    assert told["unlabelled_rows"] == 30
    assert 10 <= told["used_rows"] <= 20
    assert 0.5 <= told["least_confidence"] <= told["mean_confidence"] <= 1
    assert sum(told["labels"].values()) == pytest.approx(1)
    assert told["kept"] == (told["after"] >= told["before"])
    assert trained.report["validation"]["rows"] == 60  # Texts without labels are not scored.
    score = trained.report["validation"]["accuracy"]
    assert score == pytest.approx(told["after"] if told["kept"] else told["before"], abs=1e-9)


def test_the_report_and_the_card_show_it(trained):
    told = trained.report["self_training"]
    page = (trained.bundle / "report.html").read_text()
    assert f"{told['used_rows']} of 30 texts used with a weight of 0.3" in page
    card = (trained.bundle / "README.md").read_text()
    assert ("texts whose labels were predicted" in card) == told["kept"]


def test_the_settings_repeat_the_run(trained, texts):
    written = tomllib.loads((trained.bundle / "run.toml").read_text())["unlabelled"]
    assert (trained.bundle / written).resolve() == texts.resolve()


@pytest.mark.slow
@pytest.mark.parametrize("validation", ["folds:3", 0.2])
def test_what_lowers_the_score_is_not_kept(data, texts, tmp_path, monkeypatch, validation):
    plain = keras_peft.fine_tune(data, out=tmp_path / "a", validation=validation, **QUICK)

    def wrong(task, outputs, *, first=0):
        found = surest(task, outputs, first=first)
        return type(found)(found.texts, np.int32(1) - found.targets, found.confidence)

    monkeypatch.setattr(rounds, "surest", wrong)
    monkeypatch.setattr("keras_peft.training.self_training.WEIGHT", 50.0)
    made = keras_peft.fine_tune(data, out=tmp_path / "b", unlabelled=texts, validation=validation, **QUICK)
    told = made.report["self_training"]
    assert not told["kept"] and told["after"] < told["before"]
    # The features of the frozen blocks are computed in other batches, so they are not equal to the last bit.
    first, second = (load_file(one.bundle / "adapter.safetensors") for one in (plain, made))
    for key, value in first.items():
        np.testing.assert_allclose(second[key], value, atol=1e-3)


@pytest.mark.slow
def test_several_labels(tmp_path, texts):
    rows = [{"text": row["text"], "labels": [row["label"]]} for row in make_rows(40)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    made = keras_peft.fine_tune(path, out=tmp_path / "b", unlabelled=texts, **QUICK)
    assert set(made.report["self_training"]["labels"]) == {"alpha", "beta"}


def test_a_task_without_confidence_is_refused(tmp_path, texts):
    path = write_jsonl(tmp_path / "n.jsonl", [{"text": f"word {n}", "label": n / 7} for n in range(40)])
    with pytest.raises(OptionError, match="regression has no confidence in its answers"):
        keras_peft.fine_tune(path, out=tmp_path / "b", unlabelled=texts, **QUICK)


def test_reading_texts_without_labels(data, texts, tmp_path):
    training = read_examples(data)
    found = read_unlabelled(texts, training)
    assert len(found.texts) == 30 and found.notes == ()
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    more = [*rows, rows[0], {"text": None}, {"text": training.texts[0]}]
    found = read_unlabelled(write_jsonl(tmp_path / "more.jsonl", more), training)
    assert [*found.texts] == [row["text"] for row in rows]
    assert found.notes == (
        "of 33 rows without labels, these were left out: 1 without text, 2 that occur before or have a label",
    )
    with pytest.raises(DataError, match=r"has no column 'text'; it has: body"):
        read_unlabelled(write_jsonl(tmp_path / "other.jsonl", [{"body": "x"}]), training)
    with pytest.raises(DataError, match="all texts have labels in"):
        read_unlabelled(data, training)
    with pytest.raises(DataError, match="has no row with text"):
        read_unlabelled(write_jsonl(tmp_path / "empty.jsonl", [{"text": ""}]), training)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.4, 5)), min_size=1, max_size=40), st.integers(0, 5))
def test_the_surest_half_of_each_label(rows, first):
    task = tasks.find("single-label")(("a", "b", "c"))
    outputs = np.zeros((len(rows), 3), np.float32)
    for row, (label, margin) in enumerate(rows):
        outputs[row, label] = margin
    found = surest(task, outputs, first=first)
    labels = np.array([label for label, _ in rows])
    assert [*found.texts] == sorted(set(found.texts))
    np.testing.assert_array_equal(found.targets, labels[found.texts - first])
    for label in set(labels):
        members = np.flatnonzero(labels == label)
        chosen = np.intersect1d(members, found.texts - first)
        assert len(chosen) == max(1, round(len(members) / 2))
        left = np.setdiff1d(members, chosen)
        assert not len(left) or outputs[chosen, label].min() >= outputs[left, label].max()
    told = described(task, found, unlabelled=len(rows))
    assert told["used_rows"] == len(found.texts)
    assert sum(told["labels"].values()) == pytest.approx(1)


def test_labelled_rows_weigh_more():
    task = tasks.find("single-label")(("a", "b"))
    pseudo = surest(task, np.array([[2.0, 0.0], [0.0, 1.0]], np.float32), first=3)
    rows = WeightedRows.of(np.arange(3), np.array([0, 1, 1], np.int32)).joined(pseudo)
    assert [*rows.texts] == [0, 1, 2, 3, 4] and [*rows.targets] == [0, 1, 1, 0, 1]
    np.testing.assert_allclose(rows.weights, [1, 1, 1, WEIGHT, WEIGHT])
