import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_peft.errors import DataError
from keras_peft.tasks import UNLABELLED
from keras_peft.tasks.token_labels import Span, Task, spans

task = Task(("B-x", "I-x", "O"))


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-x I-x O", [("x", 0, 2)]),
        ("B-x B-x I-x", [("x", 0, 1), ("x", 1, 3)]),
        ("B-x I-y O", [("x", 0, 1), ("y", 1, 2)]),
        ("O I-x I-x", [("x", 1, 3)]),
        ("B-x O I-x", [("x", 0, 1), ("x", 2, 3)]),
    ],
)
def test_spans(tags, found):
    assert spans(tags.split()) == [Span(*one) for one in found]


@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 3), st.integers(0, 2))))
def test_what_is_written_as_tags_is_found_again(parts):
    tags, expected = [], []
    for label, length, gap in parts:
        expected.append(Span(label, len(tags), len(tags) + length))
        tags += [f"B-{label}", *[f"I-{label}"] * (length - 1), *["O"] * gap]
    assert spans(tags) == expected


def test_the_loss_is_the_mean_over_the_words():
    logits = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    truth = np.array([[UNLABELLED, 0, 2], [1, UNLABELLED, UNLABELLED]], np.int32)
    words = truth != UNLABELLED
    shifted = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = -np.log(shifted[words][np.arange(3), truth[words]]).mean()
    assert float(task.loss()(truth, logits)) == pytest.approx(expected, rel=1e-5)
    targets = task.targets([("B-x", "O"), ("I-x",)])
    assert task.score([logits[0, 1:], logits[1, :1]], targets).loss == pytest.approx(expected, rel=1e-5)


def outputs_of(rows):
    return [np.eye(3, dtype=np.float32)[[task.labels.index(tag) for tag in row.split()]] for row in rows]


def test_only_whole_spans_count():
    truth = task.targets([("B-x", "I-x", "O"), ("B-x", "O", "B-x")])
    scores = task.score(outputs_of(["B-x O O", "B-x O O"]), truth)
    # Two spans are predicted, three are expected; one is in both.
    assert scores.metrics["entity_precision"] == 1 / 2
    assert scores.metrics["entity_recall"] == 1 / 3
    assert scores.main == scores.metrics["entity_f1"] == pytest.approx(2 / 5)
    assert scores.metrics["accuracy"] == 4 / 6
    assert scores.labels["x"].support == 3
    assert scores.rows == 2


def test_tags_of_another_form_are_scored_one_by_one():
    tagger = Task(("DT", "NN"))
    outputs = [np.eye(2, dtype=np.float32)[[0, 1, 1]]]
    scores = tagger.score(outputs, tagger.targets([("DT", "NN", "DT")]))
    assert scores.main == scores.metrics["accuracy"] == pytest.approx(2 / 3)
    assert tagger.predictions(outputs, [("the", "old", "man")])[0].spans == ()


def test_what_was_cut_off_is_outside():
    outputs = [np.array([[1, 0, 0], [0, 0, 0]], np.float32)]
    (prediction,) = task.predictions(outputs, [("here", "gone")])
    assert prediction.tags == ("B-x", "O")
    assert prediction.to_json()["entities"] == [{"label": "x", "text": "here", "start": 0, "end": 1}]


def test_tags_have_to_differ():
    with pytest.raises(DataError, match="all words have the tag 'O'"):
        Task.check([("O",), ("O", "O")], [1, 2], "f")
