"""Holm's correction, the corrected variance of a cross-validation, and the rows that a difference needs."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from comparing.studies import difficulty, right
from keras_peft.comparing.folds import CorrectedFolds, mean_and_error
from keras_peft.comparing.statistics import holm, rows_needed


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        # 4 · 0.01; 3 · 0.02 = 0.06; 2 · 0.022 = 0.044, at least 0.06; 0.9.
        ([0.02, 0.9, 0.01, 0.022], [0.06, 0.9, 0.04, 0.06]),
        ([0.6, 0.7], [1.0, 1.0]),
    ],
)
def test_holm(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)


def test_the_corrected_error_by_hand():
    """Five folds with the differences 1, 2, 3, 4 and 5, each tested on a quarter of its training rows.

    The mean is 3 and the variance 10 / 4 = 2.5; the corrected one is (1/5 + 1/4) · 2.5 = 1.125.
    """
    assert mean_and_error([1, 2, 3, 4, 5], 1 / 4) == (3, pytest.approx(math.sqrt(1.125)))


def test_without_shared_rows_it_is_the_usual_t_test():
    differences = [0.02, -0.01, 0.05, 0.03, 0.01]
    scores = {
        "one": {(0, n): 0.5 + d for n, d in enumerate(differences)},
        "other": {(0, n): 0.5 for n in range(5)},
    }
    found = CorrectedFolds(scores, 0.0).difference("one", "other")
    wanted = ttest_1samp(differences, 0)
    assert found.value == pytest.approx(np.mean(differences))
    assert found.p == pytest.approx(wanted.pvalue)
    interval = wanted.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    corrected = CorrectedFolds(scores, 0.25)
    assert corrected.difference("one", "other").p > found.p
    assert corrected.p_of_more("one", "other", 0.0) == pytest.approx(
        corrected.difference("one", "other").p / 2
    )


def test_only_folds_that_both_have_are_compared():
    scores = {"one": {(0, 0): 0.9, (0, 1): 0.8, (1, 0): 0.1}, "other": {(0, 0): 0.8, (0, 1): 0.6}}
    assert CorrectedFolds(scores, 0.25).difference("one", "other").value == pytest.approx(0.15)


def test_a_single_fold_shows_nothing():
    found = CorrectedFolds({"one": {(0, 0): 0.9}, "other": {(0, 0): 0.1}}, 0.25)
    assert found.difference("one", "other").p == 1
    assert found.p_of_more("one", "other", 0.0) == 1
    assert (found.estimate("one").low, found.estimate("one").high) == (0, 1)


def test_a_method_is_no_better_than_itself_in_a_cross_validation():
    found = 0
    for repetition in range(200):
        generator = np.random.default_rng(repetition)
        same = difficulty(300, repetition)
        scores = {
            name: {
                (seed, fold): float(rows[fold::5].mean())
                for seed, rows in enumerate(right(0.85, same, generator))
                for fold in range(5)
            }
            for name in ("one", "other")
        }
        found += CorrectedFolds(scores, 0.25).difference("one", "other").p < 0.05
    assert found <= 10


def test_the_rows_needed_by_hand():
    """A standard error of 0.01 on 100 rows is 0.1 per row; (1.95996 + 0.84162)² · 0.1² / 0.02² = 196.2."""
    assert rows_needed(0.01, 100, 0.02) == 197
    assert rows_needed(0.01, 100, 0.02, comparisons=10) > rows_needed(0.01, 100, 0.02)


def test_so_many_rows_find_the_difference_in_four_of_five_cases():
    error, difference = 0.4, 0.05
    rows = rows_needed(error / 10, 100, difference)
    observed = np.random.default_rng(0).normal(difference, error / np.sqrt(rows), 4_000)
    assert np.mean(np.abs(observed) > 1.96 * error / np.sqrt(rows)) == pytest.approx(0.8, abs=0.02)
