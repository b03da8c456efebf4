"""Labelled text in memory is read as from a file."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from keras_peft.data.examples import read_examples
from keras_peft.errors import DataError

TEXTS, LABELS = ["a bus", "a tram", "a boat"], ["x", "y", "x"]
COLUMNS = {"text": TEXTS, "label": LABELS}
FORMS = {
    "list of dicts": [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)],
    "list of (text, label) pairs": list(zip(TEXTS, LABELS, strict=True)),
    "dict of columns": COLUMNS,
    "pandas frame": pd.DataFrame(COLUMNS, index=[5, 6, 7]),
    "Polars frame": pl.DataFrame(COLUMNS),
    "Arrow table": pa.table(COLUMNS),
    "Hugging Face dataset": datasets.Dataset.from_dict(COLUMNS),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form):
    examples = read_examples(FORMS[form])
    assert (list(examples.texts), list(examples.labels)) == (TEXTS, LABELS)
    assert examples.reading.line.startswith(f"{form}; ")


def test_values_of_other_libraries_become_plain():
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", "b", "c"], dtype="string"),
            "label": pd.Categorical(["x", None, "y"]),
            "score": np.float32([0.5, 1.5, np.nan]),
        }
    )
    examples = read_examples(frame[["text", "label"]], skip_bad_rows=True)
    assert examples.labels == ("x", "y")
    assert examples.notes == ("1 of 3 rows were skipped: 1 row has no label (row 2)",)
    assert read_examples(frame[["text", "score"]], skip_bad_rows=True).labels == (0.5, 1.5)
    lists = pd.DataFrame({"text": ["a", "b"], "labels": [np.array(["x", "y"]), np.array([], str)]})
    assert read_examples(lists).labels == (("x", "y"), ())
    hot = [{"text": "a", "labels": np.array([1, 0])}, {"text": "b", "labels": np.array([0, 1])}]
    assert read_examples(hot).labels == (("0",), ("1",))


def test_names_of_class_labels():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    dataset = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    assert read_examples(dataset, skip_bad_rows=True).labels == ("yes", "no")
    assert read_examples(dataset.data.table, skip_bad_rows=True).labels == ("yes", "no")


def test_pairs_tuples_bytes_and_streams():
    assert read_examples((["a", "b"], [0, 1])).texts == ("a", "b")
    assert read_examples((("a", "x"), ("b", "y"))).texts == ("a", "b")
    assert read_examples(
        [(["Go", "home"], ["O", "O"]), (["a", "b"], ["O", "B-x"])], task="token-labels"
    ).task.per_word
    assert read_examples(zip(TEXTS, LABELS, strict=True)).labels == tuple(LABELS)
    assert read_examples([(("a", "b"), "x"), (("c", "d"), "y")]).task.name == "pairs"
    spans = [("Anna is here", {"entities": [(0, 4, "PER")]})]
    assert read_examples(spans).labels == (("B-PER", "O", "O"),)
    assert read_examples(pd.DataFrame({"text": [b"a", b"b"], "label": [b"x", b"y"]})).labels == ("x", "y")
    stream = datasets.IterableDataset.from_generator(lambda: iter(FORMS["list of dicts"]))
    assert list(read_examples(stream).labels) == LABELS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "Got an int; expected the path of a file"),
        ([], "Got an empty list"),
        ({}, "Got an empty dict"),
        ([1, 2], "Got a list of an int; expected"),
        ({"text": "a", "label": "b"}, r"a dict with a value that is not a list \('text', 'label'\)"),
        ({"text": ["a"], "label": ["b", "c"]}, "columns of different lengths: text 1, label 2"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "several columns of the same name: 'text'"),
        (pd.DataFrame(), "has no columns"),
        (
            datasets.DatasetDict({"train": datasets.Dataset.from_dict(COLUMNS)}),
            r"choose one: data\['train'\]",
        ),
        (["a text"], "has no column 'label'"),
    ],
)
def test_what_is_no_table(data, message):
    with pytest.raises(DataError, match=message):
        read_examples(data)
