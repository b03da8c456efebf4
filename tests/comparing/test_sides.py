"""The rows that a comparison trains on, and those that it scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from conftest import make_rows, write_jsonl
from keras_peft.comparing.sides import read_sides
from keras_peft.errors import DataError
from keras_peft.progress import Progress
from keras_peft.training.settings import Settings


def read(data, test=None, **settings):
    return read_sides(data, test, Settings(**settings), Progress())


def test_few_rows_are_scored_in_folds_that_depend_on_the_seed(tmp_path):
    sides = read(write_jsonl(tmp_path / "rows.jsonl", make_rows(103)))
    assert sides.test is None
    assert sides.folds == [0, 1, 2, 3, 4]
    assert sides.test_rows == sides.rows == 103
    parts = [sides.part(0, fold) for fold in sides.folds]
    assert sorted(np.concatenate([part.positions for part in parts])) == list(range(103))
    for part in parts:
        assert len(part.training) + len(part.scored) == 103
        assert not set(part.training.texts) & set(part.scored.texts)
        assert part.scored.texts == tuple(sides.training.texts[place] for place in part.positions)
    assert list(sides.part(0, 1).positions) == list(sides.part(0, 1).positions)
    assert list(sides.part(1, 1).positions) != list(sides.part(0, 1).positions)


def test_of_many_rows_a_quarter_is_held_out(tmp_path):
    rows = make_rows(1000)
    sides = read(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert sides.folds == [None]
    assert sides.rows == 1000
    assert sides.test_rows == 250
    assert sides.test.labels.count("alpha") == 125
    assert sides.test.texts == tuple(rows[place]["text"] for place in sides.positions)
    assert not set(sides.training.texts) & set(sides.test.texts)
    # The seeds of the trainings do not move the sides.
    assert sides.part(0, None).positions is sides.part(7, None).positions


def test_rows_with_the_same_text_stay_on_one_side(tmp_path):
    rows = [{"text": f"text {n // 2}", "label": n % 7 + n / 1000} for n in range(1200)]
    sides = read(write_jsonl(tmp_path / "rows.jsonl", rows), task="regression")
    assert not set(sides.training.texts) & set(sides.test.texts)
    few = read(write_jsonl(tmp_path / "few.jsonl", rows[:300]), task="regression")
    for fold in few.folds:
        part = few.part(0, fold)
        assert not set(part.training.texts) & set(part.scored.texts)


def test_a_test_file_is_scored_without_texts_that_are_trained_on(tmp_path):
    rows = make_rows(120)
    data = write_jsonl(tmp_path / "rows.jsonl", rows[:80])
    test = write_jsonl(tmp_path / "more.jsonl", rows[70:])
    sides = read(data, test)
    assert sides.test_rows == 40
    assert list(sides.positions) == list(range(10, 50))
    assert sides.notes == ("10 test texts are also in the training rows and are not scored",)
    with pytest.raises(DataError, match="all test texts are also in the training rows"):
        read(data, data)


def test_a_folder_with_both_files_has_its_own_test_rows(tmp_path):
    rows = make_rows(120)
    train = write_jsonl(tmp_path / "train.jsonl", rows[:80])
    write_jsonl(tmp_path / "test.jsonl", rows[80:])
    sides = read(tmp_path)
    assert sides.data == train
    assert sides.test_rows == 40
    (tmp_path / "test.csv").write_text("text,label\n")
    with pytest.raises(DataError, match=r"has several test files: test.csv, test.jsonl"):
        read(tmp_path)


def test_an_unknown_label_in_the_test_rows_is_refused(tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", make_rows(80))
    test = write_jsonl(tmp_path / "more.jsonl", make_rows(20, labels=("alpha", "gamma"), seed=1))
    with pytest.raises(DataError, match="labels that the classifier does not know: 'gamma'"):
        read(data, test)


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match=r"49 rows are too few to compare methods on; .* takes about 2,0"):
        read(make_rows(49))
    assert read(make_rows(50)).rows == 50


def test_the_content_decides_the_digest(tmp_path):
    rows = make_rows(60)
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    digest = read(data).sha256()
    assert digest == read(rows).sha256() == read(data).sha256()
    data.write_text(data.read_text() + json.dumps({"text": "one more", "label": "alpha"}) + "\n")
    assert read(data).sha256() != digest


def test_each_fold_knows_the_labels_of_all_rows(tmp_path):
    """A tag that one row has is scored, although no training sees it."""
    rows = [{"tokens": ["a", f"b{n}"], "tags": ["X", "Y"]} for n in range(60)]
    rows[7]["tags"] = ["X", "ONCE"]
    sides = read(write_jsonl(tmp_path / "rows.jsonl", rows))
    parts = [sides.part(0, fold) for fold in sides.folds]
    assert [part.training.trained_task().labels for part in parts] == [("ONCE", "X", "Y")] * 5
    taught = [{tag for tags in part.training.labels for tag in tags} for part in parts]
    assert sum("ONCE" not in one for one in taught) == 1


def test_numbers_of_a_fold_do_not_count_in_its_training(tmp_path):
    rows = [{"text": f"text {n}", "label": n / 7} for n in range(60)]
    part = read(write_jsonl(tmp_path / "rows.jsonl", rows), task="regression").part(0, 0)
    assert part.training.trained_task().mean == pytest.approx(np.mean(part.training.labels))


def test_what_is_said_of_the_rows_is_not_said_again_of_each_fold(tmp_path):
    sides = read(
        write_jsonl(tmp_path / "rows.jsonl", [*make_rows(60), {"text": "odd", "label": "alpha"}] * 2)
    )
    assert "61 exact duplicates were removed" in sides.notes
    assert sides.part(0, 0).training.notes == ()
