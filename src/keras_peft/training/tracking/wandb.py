"""Weights & Biases, through its own Keras callback. Configure it with its variables, such as WANDB_MODE."""

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
    """Starts a W&B run with the bundle's name and the settings as its configuration."""
    import wandb

    with wandb.init(name=run.name, config=dict(run.settings)):
        from wandb.integration.keras import WandbMetricsLogger

        yield WandbMetricsLogger()
