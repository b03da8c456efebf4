"""Metrics without scikit-learn and SciPy, compared with theirs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, rankdata
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from keras_peft.tasks._intervals import wilson
from keras_peft.tasks._scores import by_label, confusion, f1
from keras_peft.tasks.regression import _ranks

LABELS = ("a", "b", "c", "d")
indices = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def assert_same(labels, truth, predicted):
    scores = precision_recall_fscore_support(
        truth, predicted, labels=np.arange(len(labels)), average=None, zero_division=0.0
    )
    for label, precision, recall, own, support in zip(labels, *scores, strict=True):
        found = by_label(labels, truth, predicted)[label]
        assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, own))
        assert found.support == support


@given(rows=indices)
def test_scores_of_one_label_per_row(rows):
    truth, predicted = (np.array(side) for side in zip(*rows, strict=True))
    assert_same(LABELS, truth, predicted)
    assert confusion(truth, predicted, 4) == confusion_matrix(truth, predicted, labels=range(4)).tolist()


def test_of_very_many_labels_there_is_no_matrix():
    """It grows with the square of the number of labels."""
    truth = np.arange(5000)
    predicted = np.where(truth % 2, truth, 0)
    assert confusion(truth, predicted, 5000) == []
    found = by_label([str(label) for label in truth], truth, predicted)
    assert (found["0"].support, found["1"].f1, found["2"].f1) == (1, 1.0, 0.0)
    assert found["0"].precision == 1 / 2500


@given(rows=st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=20))
def test_scores_of_several_labels_per_row(rows):
    both = np.array(rows)
    truth, predicted = both[:, :4].astype("float32"), both[:, 4:]
    assert_same(LABELS, truth, predicted)
    assert f1(predicted, truth) == pytest.approx(
        f1_score(truth, predicted, average="micro", zero_division=0.0)
    )


@given(right=st.integers(0, 50), more=st.integers(0, 50))
def test_intervals_of_an_accuracy(right, more):
    rows = right + more + 2
    wanted = binomtest(right, rows).proportion_ci(0.95, method="wilson")
    assert wilson(right / rows, rows) == pytest.approx((wanted.low, wanted.high))


@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_ranks(values):
    np.testing.assert_array_equal(_ranks(np.array(values)), rankdata(values))
