"""Weights & Biases, by its own Keras callback; WANDB_MODE and the other variables are W&B's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keras_peft.training.tracking import TrackedRun

if TYPE_CHECKING:
    import keras

PACKAGE = "wandb"


@contextmanager
def tracked(run: TrackedRun) -> Iterator[keras.callbacks.Callback]:
    """Makes a run of the bundle's name, with the settings as its configuration."""
    import wandb

    with wandb.init(name=run.name, config=dict(run.settings)):
        from wandb.integration.keras import WandbMetricsLogger

        yield WandbMetricsLogger()
