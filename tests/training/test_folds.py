"""Cross-validation."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_peft
from conftest import TINY
from keras_peft.data.examples import Examples
from keras_peft.errors import DataError, OptionError
from keras_peft.training.folds import make_folds

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


@given(st.lists(st.sampled_from("abc"), min_size=4, max_size=60), st.integers(2, 4), st.integers(0, 9))
def test_every_row_is_held_out_once_and_labels_are_shared_out(labels, folds, seed):
    examples = Examples(tuple(map(str, range(len(labels)))), tuple(labels), "f")
    made = make_folds(examples, folds, seed=seed)
    held_out = [text for _, inside in made for text in inside.texts]
    assert sorted(held_out, key=int) == list(examples.texts)
    for outside, inside in made:
        assert sorted([*outside.texts, *inside.texts], key=int) == list(examples.texts)
    for label in set(labels):
        counts = [inside.labels.count(label) for _, inside in made]
        assert max(counts) - min(counts) <= 1
    assert make_folds(examples, folds, seed=seed) == made


@pytest.mark.slow
def test_it_scores_each_part(data):
    result = keras_peft.cross_validate(data, folds=3, base=str(TINY), epochs=2)
    assert [one.rows for one in result.folds] == [20, 20, 20]
    mean, deviation = result.summary()["accuracy"]
    assert mean == pytest.approx(sum(one.metrics["accuracy"] for one in result.folds) / 3)
    assert deviation >= 0
    assert result.to_json()["mean"]["accuracy"] == mean


def test_what_cannot_be_parted(data):
    for folds in (1, 61):
        with pytest.raises(OptionError, match=f"`folds={folds}`: expected from 2"):
            keras_peft.cross_validate(data, folds=folds, base=str(TINY))
    with pytest.raises(OptionError, match="Unknown setting 'epoch'.* Did you mean 'epochs'"):
        keras_peft.cross_validate(data, epoch=3)
    with pytest.raises(OptionError, match="'validation', 'abstain_below' have no effect here"):
        keras_peft.cross_validate(data, validation=0.2, abstain_below=0.9)
    with pytest.raises(DataError):
        keras_peft.cross_validate("nothing.csv")


@pytest.mark.slow
def test_the_command_takes_the_file_of_a_training(command_line, bundle, data):
    arguments = ("--config", bundle / "run.toml", "--folds", 2, "--epochs", 1)
    code, out, said = command_line("cross-validate", *arguments, "--json")
    assert code == 0, said
    assert [one["rows"] for one in json.loads(out)["folds"]] == [30, 30]
    code, out, said = command_line("cross-validate", *arguments)
    assert code == 0, said
    assert "2 folds" in " ".join(out.split())
    assert command_line("cross-validate", data, "--validation", 0.2)[0] == 2
