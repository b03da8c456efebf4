"""Every form of labelled text that tools and libraries write is read as its author meant it, or refused by name.

forms/forms.json lists a small file for each form, with its labels. The documentation shows the same list.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keras_peft.data.examples import read_examples
from keras_peft.data.splitting import split_file
from keras_peft.errors import DataError

FOLDER = Path(__file__).parent / "forms"
FORMS = json.loads((FOLDER / "forms.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("form", FORMS, ids=[form["file"] for form in FORMS])
def test_a_form(form):
    path = FOLDER / form["file"]
    if "refusal" in form:
        with pytest.raises(DataError) as raised:
            read_examples(path)
        assert form["refusal"] in str(raised.value)
        return
    examples = read_examples(path, **form.get("options", {}))
    labels = [list(label) if isinstance(label, tuple) else label for label in examples.labels]
    assert (examples.task.name, labels) == (form["task"], form["labels"])
    assert examples.reading.left_out == form.get("left_out", {})
    assert all(examples.texts)


@pytest.mark.parametrize(
    "form",
    [
        form
        for form in FORMS
        if form["file"] not in ("excel_decimal.csv", "predictions.csv") and "task" in form
    ],
    ids=lambda form: form["file"],
)
def test_its_split_has_the_same_labels(form, tmp_path):
    options = form.get("options", {})
    made = split_file(FOLDER / form["file"], tmp_path / "parts", test=0.34, validation=0, **options)
    parts = [read_examples(path, task=form["task"], **options) for path in made.files.values()]
    found = [list(label) if isinstance(label, tuple) else label for part in parts for label in part.labels]
    assert sorted(map(str, found)) == sorted(map(str, form["labels"]))


def test_every_file_is_listed():
    assert {path.name for path in FOLDER.iterdir()} - {"forms.json"} == {form["file"] for form in FORMS}
