"""Holm's correction, the wider intervals of a cross-validation, and the rows that a difference needs."""

import math

import numpy as np
import pytest

from comparing.studies import TASK, counts, difficulty, right
from keras_peft.comparing.bootstrap import RowBootstrap, widening_of_folds
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


def test_the_widening_of_folds_by_hand():
    """Each of 5 folds is tested on a quarter of its training rows: (1/5 + 1/4) / (1/5) = 2.25 times the variance."""
    assert widening_of_folds(5, 1 / 4) == pytest.approx(1.5)
    assert widening_of_folds(10, 1 / 9) == pytest.approx(math.sqrt((1 / 10 + 1 / 9) * 10))


def test_a_widened_bootstrap_has_so_much_wider_intervals():
    same = difficulty(400, 0)
    generator = np.random.default_rng(0)
    scored = {
        name: [counts(one) for one in right(0.85, same, generator, seeds=1)] for name in ("one", "other")
    }
    usual, wide = (
        RowBootstrap(scored, TASK.from_counts, widening=factor, resamples=1_000) for factor in (1.0, 1.5)
    )
    narrow, broad = usual.difference("one", "other"), wide.difference("one", "other")
    assert broad.value == narrow.value
    assert broad.error == pytest.approx(1.5 * narrow.error)
    assert broad.high - broad.low == pytest.approx(1.5 * (narrow.high - narrow.low))


def test_a_method_is_no_better_than_itself_in_a_cross_validation():
    """The trainings on the folds of a seed also vary together, by a hundredth, which the rows do not show."""
    found = 0
    for repetition in range(100):
        generator = np.random.default_rng(repetition)
        same = difficulty(300, repetition)
        scored = {
            name: [counts(one) for one in right(0.85, same, generator, seeds=1, spread=0.01)]
            for name in ("one", "other")
        }
        evidence = RowBootstrap(scored, TASK.from_counts, widening=1.5, resamples=500)
        found += evidence.difference("one", "other").p < 0.05
    assert found <= 5


def test_the_rows_needed_by_hand():
    """A standard error of 0.01 on 100 rows is 0.1 per row; (1.95996 + 0.84162)² · 0.1² / 0.02² = 196.2."""
    assert rows_needed(0.01, 100, 0.02) == 197
    assert rows_needed(0.01, 100, 0.02, comparisons=10) > rows_needed(0.01, 100, 0.02)


def test_so_many_rows_find_the_difference_in_four_of_five_cases():
    error, difference = 0.4, 0.05
    rows = rows_needed(error / 10, 100, difference)
    observed = np.random.default_rng(0).normal(difference, error / np.sqrt(rows), 4_000)
    assert np.mean(np.abs(observed) > 1.96 * error / np.sqrt(rows)) == pytest.approx(0.8, abs=0.02)
