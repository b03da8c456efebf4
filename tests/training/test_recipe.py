"""The default training recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.recipe import Recipe, default_epochs
from keras_peft.training.watcher import EpochRecord, Watcher


def test_default_epochs_make_about_600_steps():
    assert default_epochs(200, 16) == 20
    assert default_epochs(2026, 16) == 5
    assert default_epochs(100_000, 16) == 3
    # 200 steps, if that takes at most 40 epochs.
    assert default_epochs(100, 16) == 29
    assert default_epochs(80, 16) == 40
    assert default_epochs(1, 16) == 40


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([0.8, 0.0099], True),
        ([0.8, 0.0101], False),
        ([0.06, 0.0099], False),  # Nearly all rows have the same label.
        ([0.06, 0.001], True),
        ([0.0099], False),
    ],
)
def test_training_stops_when_nothing_is_left_to_learn(losses, stops):
    recipe = Recipe(epochs=9, batch_size=4, rates={"head/": 1e-3}, stops_when_learned=True)
    watcher = Watcher(None, None, None, recipe, Progress(), Stopwatch(), None)
    watcher._records = [EpochRecord(n, loss, loss, {"accuracy": 1.0}) for n, loss in enumerate(losses, 1)]
    assert watcher.is_enough() is stops
    plain = Watcher(
        None, None, None, replace(recipe, stops_when_learned=False), Progress(), Stopwatch(), None
    )
    plain._records = watcher._records
    assert not plain.is_enough()
