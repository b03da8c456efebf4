"""The simulation of the test, which the documentation quotes."""

import numpy as np
import pytest
from benchmarks.comparison import simulation
from benchmarks.comparison.simulation import ACCURACIES, apart_in_folds, drawn, found_apart, without_effect

from keras_peft.comparing.bootstrap import RowBootstrap


@pytest.mark.parametrize("accuracy", ACCURACIES)
@pytest.mark.parametrize("structure", simulation.STRUCTURES)
def test_the_accuracies_are_those_asked_for(accuracy, structure):
    (counts,) = drawn([accuracy], 20_000, 0.0, structure, 0).values()
    assert np.mean([one[:, 0].mean() for one in counts]) == pytest.approx(accuracy, abs=0.01)


def test_seeds_spread_as_asked():
    means = [
        one[:, 0].mean()
        for seed in range(40)
        for one in drawn([0.85], 5_000, 0.02, (2.0, 0.5), seed)["method 0"]
    ]
    centred = np.reshape(means, (40, 3)) - np.reshape(means, (40, 3)).mean(axis=1, keepdims=True)
    assert np.sqrt((centred**2).sum() / 80) == pytest.approx(0.02, rel=0.25)


def test_large_differences_are_found():
    assert found_apart(0.3, 240, 0.85, 0.0, 2) == 1
    assert apart_in_folds(0.3, 240, 3, 0.05, 2) == (1, 1)


def test_without_the_effect_of_the_seed_intervals_are_narrower():
    scored = drawn([0.85, 0.85], 500, 0.05, (2.0, 0.5), 0)
    own = RowBootstrap(scored, simulation.accuracy_of, resamples=500).estimate("method 0")
    with without_effect():
        rows = RowBootstrap(scored, simulation.accuracy_of, resamples=500).estimate("method 0")
    assert rows.high - rows.low < own.high - own.low
