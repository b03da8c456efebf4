"""The paired bootstrap over rows, with simulated methods."""

import numpy as np
import pytest

from comparing.studies import TASK, counts, difficulty, right
from keras_peft.comparing import bootstrap
from keras_peft.comparing.bootstrap import RowBootstrap
from keras_peft.tasks import find, wilson

RESAMPLES = 500


def evidence(scored, **options):
    own = {name: [counts(one) for one in rows] for name, rows in scored.items()}
    return RowBootstrap(own, TASK.from_counts, **{"resamples": RESAMPLES, **options})


def told_apart(accuracies, rows, repetitions, *, spread=0.0):
    """In how many repetitions two methods with these accuracies are told apart."""
    found = 0
    for repetition in range(repetitions):
        generator = np.random.default_rng([rows, repetition, round(1000 * accuracies[0])])
        same = difficulty(rows, repetition)
        one, other = (right(accuracy, same, generator, spread=spread) for accuracy in accuracies)
        found += evidence({"one": one, "other": other}, seed=repetition).difference("one", "other").p < 0.05
    return found


@pytest.mark.parametrize("rows", [240, 600])
def test_a_method_is_no_better_than_itself(rows):
    """Two sets of seeds of the same method are told apart in at most 5 of 100 comparisons."""
    assert sum(told_apart((accuracy, accuracy), rows, 100) for accuracy in (0.7, 0.85, 0.96)) <= 15


def test_seeds_that_differ_make_no_method_better_than_itself():
    """Half of the deviation is due to the seeds, which the rows do not show."""
    assert told_apart((0.9, 0.9), 600, 100, spread=0.012) <= 10


@pytest.mark.parametrize("accuracy", [0.75, 0.96])
def test_a_difference_of_five_hundredths_is_found(accuracy):
    assert told_apart((accuracy, accuracy - 0.05), 600, 50) >= 46


def test_equal_answers_are_no_difference():
    rows = right(0.8, difficulty(50, 0), np.random.default_rng(0))
    found = evidence({"one": rows, "other": rows}).difference("one", "other")
    assert (found.value, found.p) == (0, 1)


def test_the_interval_is_that_of_the_mean_of_the_seeds():
    same = difficulty(2_000, 0)
    rows = right(0.8, same, np.random.default_rng(0))
    found = evidence({"three": rows, "single": rows[:1]})
    assert found.estimate("three").value == pytest.approx(np.mean(rows))
    resampled = found._resampled.std(axis=0)
    assert resampled[0] == pytest.approx(np.mean(rows, axis=0).std() / np.sqrt(2_000), rel=0.1)
    assert resampled[1] == pytest.approx(rows[0].std() / np.sqrt(2_000), rel=0.1)
    narrow = evidence({"single": rows[:1]}).estimate("single")
    assert (narrow.high - narrow.low) / 2 == pytest.approx(1.96 * resampled[1], rel=0.15)


def test_the_interval_of_perfect_answers_is_not_empty():
    found = evidence({"one": [np.ones(50)] * 2}).estimate("one")
    assert (found.low, found.high) == wilson(1.0, 50)


def test_a_difference_is_that_of_the_same_rows():
    """Half of the rows are so hard that both fail; so their intervals are wide, and the difference is clear."""
    hard = np.arange(400) < 200
    one, other = ~hard, ~hard & (np.arange(400) % 20 > 0)
    found = evidence({"one": [one], "other": [other]})
    assert found.estimate("other").high > found.estimate("one").low
    difference = found.difference("one", "other")
    assert difference.value == pytest.approx(10 / 400)
    assert difference.p < 0.05
    assert difference.low > 0
    assert found.difference("other", "one").value == -difference.value
    assert found.p_of_more("one", "other", 0.0) < 0.05 < found.p_of_more("one", "other", 0.024)


def test_many_rows_are_grouped_without_a_different_error(monkeypatch):
    scored = {"one": [np.arange(4_000) % 5 > 0], "other": [np.arange(4_000) % 4 > 0]}
    exact = evidence(scored).difference("one", "other")
    monkeypatch.setattr(bootstrap, "_MOST_UNITS", 500)
    grouped = evidence(scored).difference("one", "other")
    assert grouped.value == pytest.approx(exact.value)
    assert grouped.error == pytest.approx(exact.error, rel=0.15)


def test_a_regression_without_chance_gets_no_effect_of_the_seed():
    same = difficulty(300, 0)
    generator = np.random.default_rng(0)
    fixed = right(0.8, same, generator, seeds=1) * 3
    found = evidence({"moving": right(0.8, same, generator, spread=0.05), "fixed": fixed})
    effects = dict(zip(found.names, found._effects, strict=True))
    assert effects["fixed"] == 0 < effects["moving"]


def test_other_metrics_than_an_accuracy():
    """Pearson's correlation: a method with less noise is better."""
    task = find("regression")()
    generator = np.random.default_rng(0)
    truth = generator.normal(size=300).astype(np.float32)
    made = {
        name: [
            task.counts((truth + noise * generator.normal(size=300)).astype(np.float32)[:, None], truth)
            for _ in range(3)
        ]
        for name, noise in (("good", 0.5), ("bad", 0.8))
    }
    found = RowBootstrap(made, task.from_counts, resamples=RESAMPLES)
    assert found.estimate("good").value == pytest.approx(1 / np.sqrt(1.25), abs=0.03)
    assert found.difference("good", "bad").p < 0.01


def test_the_default_suffices_for_the_correction_of_all_pairs():
    pairs = 325
    resamples = max(bootstrap.RESAMPLES, bootstrap._RESAMPLES_PER_PAIR * pairs)
    assert pairs * 1 / (resamples + 1) < 0.05


def test_the_interval_of_a_negative_correlation_contains_values_below_it():
    task = find("regression")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 60))
    y -= 0.3 * x
    moments = np.stack([np.ones(60), x, y, x**2, y**2, x * y], axis=1)
    measure = task(mean=0.0, deviation=1.0).from_counts
    found = RowBootstrap({"one": [moments]}, measure, widening=1.5, resamples=RESAMPLES).estimate("one")
    assert -1 <= found.low < found.value - 0.1 < found.value + 0.1 < found.high
    assert found.value < 0


def test_the_interval_of_an_accuracy_is_within_0_and_1():
    rows = np.arange(20) < 2
    found = evidence({"one": [rows], "other": [~rows]}, widening=3.0)
    assert found.estimate("one").low == 0
    assert found.estimate("other").high == 1
