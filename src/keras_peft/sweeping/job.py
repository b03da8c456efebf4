"""What all trials of a sweep share."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft import methods
from keras_peft.core.method import Method
from keras_peft.data.tables import Data
from keras_peft.sweeping.space import Choice
from keras_peft.training.settings import Settings


@dataclass(frozen=True)
class Job:
    """What all trials of a sweep share; it is sent to the processes that run them.

    Attributes:
        data: The labelled text.
        method: The method with its fixed options.
        settings: The fixed settings.
        folder: Folder for the checkpoints of trials.
    """

    data: Data
    method: Method
    settings: Mapping[str, Any]
    folder: Path

    def method_of(self, choice: Choice) -> Method:
        """Returns the method that a trial trains, with its options."""
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in choice.options.items()}
        if choice.method == self.method.name:
            return dataclasses.replace(self.method, **options)
        return methods.find(choice.method).from_options(options)

    def settings_of(self, choice: Choice) -> Settings:
        """Returns the settings that a trial trains with."""
        return Settings.of({**self.settings, **choice.settings})

    def checkpoint_of(self, choice: Choice) -> Path:
        """Returns the folder of a trial's checkpoint, by which a later trial with the same values goes on."""
        described = json.dumps(choice.to_json(), sort_keys=True)
        return self.folder / hashlib.sha256(described.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What a trial reached.

    Attributes:
        metrics: The scores on the validation rows; the first is the main one.
        loss: The loss on them.
        epochs: Number of epochs that were trained.
        parameters: Number of trainable parameters.
        seconds: Duration of the trial.
        weights: SHA-256 of the trained tensors.
    """

    metrics: Mapping[str, float]
    loss: float
    epochs: int
    parameters: int
    seconds: float
    weights: str

    @property
    def value(self) -> float:
        """The main score."""
        return next(iter(self.metrics.values()))
