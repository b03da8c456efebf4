"""The choice of texts to label next."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft import tasks
from keras_peft.errors import DataError, OptionError
from keras_peft.labelling import _Candidates


@pytest.fixture(scope="module")
def classifier(bundle):
    return keras_peft.load(bundle)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    rows = [{"id": number, "text": row["text"]} for number, row in enumerate(make_rows(40, seed=5))]
    rows += [{"id": 100, "text": ""}, {"id": 101, "text": rows[0]["text"]}]
    return write_jsonl(tmp_path_factory.mktemp("pool") / "pool.jsonl", rows)


def test_it_chooses_different_texts_and_leaves_out_labelled_ones(classifier, data, pool, tmp_path):
    first = [json.loads(line)["text"] for line in pool.read_text().splitlines()][:10]
    rows = [*map(json.loads, data.read_text().splitlines()), *({"text": t, "label": "alpha"} for t in first)]
    labelled = write_jsonl(tmp_path / "labelled.jsonl", rows)
    chosen = keras_peft.rows_to_label(classifier, pool, count=8, labelled=labelled)
    texts = [row["text"] for row in chosen.rows]
    assert len(set(texts)) == 8 and not {*texts} & {*first}
    assert chosen.pool == 30 and len(chosen.labelled) == 70
    for row in chosen.rows:
        assert row["label"] is None
        (prediction,) = classifier.predict([row["text"]])
        assert row["predicted"] == prediction.label
        assert abs(float(row["confidence"]) - prediction.probabilities[prediction.label]) < 2e-3


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_the_filled_file_is_trained_on(classifier, data, pool, tmp_path, ending):
    chosen = keras_peft.rows_to_label(classifier, pool, count=4, labelled=data)
    path = tmp_path / f"next{ending}"
    chosen.write(path)
    with pytest.raises(DataError, match=r"4 rows have no label \(rows 1, 2, 3, 4\)"):
        keras_peft.read_examples(path)
    if ending == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write_jsonl(path, [{**row, "label": row["label"] or "beta"} for row in rows])
    else:
        delimiter = "," if ending == ".csv" else "\t"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows({**row, "label": row["label"] or "beta"} for row in rows)
    assert len(keras_peft.read_examples(path)) == 64
    with pytest.raises(OptionError, match=r"exists; choose another `out`"):
        chosen.write(path)


@pytest.mark.parametrize(("label", "chosen"), [(None, 1), ("", 1), (" ", 1), (0, 0), ("x", 0), ([], 0)])
def test_rows_that_have_a_label_are_left_out(classifier, tmp_path, label, chosen):
    rows = [{"text": "the model", "label": label}, {"text": "for people"}]
    pool = write_jsonl(tmp_path / "pool.jsonl", rows)
    found = keras_peft.rows_to_label(classifier, pool)
    assert [row["text"] for row in found.rows].count("the model") == chosen
    assert found.pool == 1 + chosen


def test_vectors_and_outputs_are_those_of_the_model(classifier):
    texts = [row["text"] for row in make_rows(5, seed=7)]
    with classifier.vectors_and_outputs() as compute:
        vectors, outputs = compute(texts)
    assert vectors.shape == (5, 16)
    np.testing.assert_allclose(outputs, classifier.outputs(texts), atol=1e-5)


@given(
    doubts=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    count=st.integers(1, 12),
    kinds=st.integers(1, 8),
    piece=st.integers(1, 20),
)
def test_the_candidates_are_the_least_certain(doubts, count, kinds, piece):
    vectors = np.eye(8, dtype=np.float32)[np.arange(len(doubts)) % kinds]
    candidates = _Candidates(10 * count)
    for start in range(0, len(doubts), piece):
        part = slice(start, start + piece)
        candidates.add([{"row": n} for n in range(len(doubts))[part]], vectors[part], np.array(doubts[part]))
    chosen = [row["row"] for row in candidates.spread(count, seed=0)]
    assert len(set(chosen)) == len(chosen) == min(count, len(doubts))
    least = sorted(doubts, reverse=True)[: 10 * count][-1]
    assert all(doubts[row] >= least for row in chosen)
    assert [doubts[row] for row in chosen] == sorted((doubts[row] for row in chosen), reverse=True)


def test_uncertainty():
    one = tasks.find("single-label")(("a", "b"))
    np.testing.assert_allclose(one.uncertainty(np.array([[0.0, 0.0], [50.0, 0.0]])), [1, 0], atol=1e-6)
    several = tasks.find("multi-label")(("a", "b"))
    np.testing.assert_allclose(several.uncertainty(np.array([[50.0, 0.0], [50.0, -50.0]])), [1, 0], atol=1e-6)
    with pytest.raises(OptionError, match="token-labels has no confidence"):
        tasks.find("token-labels")(("O",)).uncertainty([])


def test_what_cannot_be_chosen(classifier, pool, tmp_path):
    with pytest.raises(OptionError, match="`count=0`"):
        keras_peft.rows_to_label(classifier, pool, count=0)
    with pytest.raises(DataError, match="has no column 'body'"):
        keras_peft.rows_to_label(classifier, pool, text_column="body")
    with pytest.raises(OptionError, match="reads 1 texts per row"):
        keras_peft.rows_to_label(classifier, pool, text_column="one,two")
    with pytest.raises(DataError, match=r"no text to choose: all are empty or have a label, there or in"):
        labelled = write_jsonl(
            tmp_path / "all.jsonl",
            [{"label": "alpha", **json.loads(line)} for line in pool.read_text().splitlines()],
        )
        keras_peft.rows_to_label(classifier, pool, labelled=labelled)
    with pytest.raises(DataError, match="has no column 'label'"):
        keras_peft.rows_to_label(classifier, pool, labelled=pool)


def test_the_command(bundle, data, pool, command_line, tmp_path):
    code, out, err = command_line(
        "label", bundle, pool, "--next", 3, "--labelled", data, "--out", "next.csv", "--base", TINY
    )
    assert code == 0, err
    assert "Wrote 3 of 40 texts to next.csv" in out
    with (tmp_path / "next.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows[:4]] == ["", "", "", "alpha"] and len(rows) == 63
    assert list(rows[0]) == ["text", "label", "id", "predicted", "confidence"]
    code, out, _ = command_line("label", bundle, pool, "--out", "next.jsonl", "--json", "--base", TINY)
    assert json.loads(out) == {"pool": 40, "rows": 40, "labelled": 0, "output": "next.jsonl"}
    code, _, err = command_line("label", bundle, pool, "--out", "next.xlsx")
    assert code == 2 and "expected a file that ends in .csv, .tsv, .jsonl" in err
