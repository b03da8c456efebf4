"""The yardsticks, where training lacks some of the labels."""

from __future__ import annotations

import numpy as np
import pytest

from keras_peft import tasks
from keras_peft.comparing.yardsticks._linear import fit_linear

GENERATOR = np.random.default_rng(0)
SIDES = np.repeat([0, 1], 10)
FEATURES = SIDES[:, None] + 0.1 * GENERATOR.normal(size=(20, 3))


@pytest.mark.parametrize(
    ("name", "labels", "right"),
    [
        ("single-label", ["a" if side else "c" for side in SIDES], [2, 0]),
        ("multi-label", [("a",) if side else ("c",) for side in SIDES], [2, 0]),
    ],
)
def test_labels_that_training_lacks_are_never_predicted(name, labels, right):
    task = tasks.find(name).from_labels([*labels, *(["b"] if name == "single-label" else [("b",)])])
    run, _ = fit_linear(task, FEATURES, labels)
    outputs = run(FEATURES[[0, -1]])
    assert outputs.shape == (2, 3)
    assert list(outputs.argmax(axis=1)) == right
    assert (outputs[:, 1] < -1e6).all()
