"""The default training recipe."""

from __future__ import annotations

from keras_peft.training.recipe import default_epochs


def test_default_epochs_make_about_600_steps():
    assert default_epochs(200, 16) == 20
    assert default_epochs(2026, 16) == 5
    assert default_epochs(100_000, 16) == 3
    assert default_epochs(1, 16) == 20
