"""How to train: the rates of learning, the batches, and how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.tasks import Task
    from keras_peft.training.settings import Settings

# Found by measuring: docs/internals/decisions/0003-training-defaults.md.
STEPS = 600
LEAST_EPOCHS = 3
MOST_EPOCHS = 30


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Times to see all rows, at most.
        batch_size: Rows in a batch.
        rates: The highest learning rates, by the beginnings of the model's keys. They
            are reached after the first tenth of the steps.
        label_smoothing: Share of each target that is spread over all labels.
        class_weights: Whether rows of rare labels count more, so that all labels count
            the same.
        gradient_accumulation: Batches whose gradients make one step together.
        patience: Epochs without a better score on the validation rows after which to
            stop, and go back to the best; all epochs are trained by default.
        seed: Fixes the order of the batches.
    """

    epochs: int
    batch_size: int
    rates: Mapping[str, float]
    label_smoothing: float = 0.0
    class_weights: bool = False
    gradient_accumulation: int = 1
    patience: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, settings: Settings, model: AdaptedModel, task: Task, *, rows: int) -> Recipe:
        """Decides how to train a model where the settings leave it open.

        Args:
            settings: What was said.
            model: An adapted model.
            task: What its head means.
            rows: Number of rows to train on; a window of a long text is one.
        """
        step = settings.batch_size * settings.gradient_accumulation
        return cls(
            epochs=settings.epochs or default_epochs(rows, step),
            batch_size=settings.batch_size,
            rates=default_rates(model, settings.learning_rate),
            label_smoothing=task.label_smoothing(settings.label_smoothing),
            class_weights=settings.class_weights,
            gradient_accumulation=settings.gradient_accumulation,
            patience=settings.patience,
            seed=settings.seed,
        )


def default_epochs(rows: int, batch_size: int) -> int:
    """Returns how many epochs to train when none are given.

    What counts is the number of steps: few rows need many epochs and many rows
    few. It is about 600 in no fewer than 3 and no more than 30 epochs.
    """
    steps = math.ceil(rows / batch_size)
    return min(MOST_EPOCHS, max(LEAST_EPOCHS, round(STEPS / steps)))


def default_rates(model: AdaptedModel, learning_rate: float | None = None) -> dict[str, float]:
    """Returns the highest learning rates of a model's one adapter, by the beginnings of its keys.

    Args:
        model: An adapted model.
        learning_rate: That of the adapter's first method instead of its own. It is one
            knob: the others keep their proportion to it.
    """
    (adapter,) = model.adapters.values()
    first = adapter.parts[0].method
    factor = (learning_rate or first.learning_rate) / first.learning_rate
    rates = {"head/": first.head_learning_rate * factor}
    rates |= {key: method.learning_rate * factor for key, method in adapter.movers.items()}
    for held in adapter.held:
        for beginning in (f"{held.site.key}/{held.method.name}/", f"{held.method.name}/"):
            rates[beginning] = held.method.learning_rate * factor
    keys = model.adapter_variables()
    return {start: rate for start, rate in rates.items() if any(key.startswith(start) for key in keys)}
