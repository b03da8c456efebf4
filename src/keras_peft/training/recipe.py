"""Training recipe: learning rates, batches and duration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_peft.training.settings import FEW_ROWS, LABEL_SMOOTHING, Settings

if TYPE_CHECKING:
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.tasks import Task

# Chosen by experiment: docs/internals/decisions/0003-training-defaults.md and 0014-few-rows.md.
STEPS = 600
LEAST_EPOCHS = 3
MOST_EPOCHS = 20
FEWEST_STEPS = 200
MOST_EPOCHS_OF_FEW_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyperparameters of a training run.

    Attributes:
        epochs: Maximum number of passes over the training data.
        batch_size: Rows per batch.
        rates: Peak learning rates by the prefixes of the model's keys. They are reached after
            the first tenth of the steps.
        label_smoothing: Fraction of each target that is spread over all labels.
        class_weights: Whether rows of rare labels weigh more, so that all labels count equally.
        gradient_accumulation: Number of batches whose gradients are combined into one step.
        patience: Number of epochs without a better validation score after which training
            stops and restores the best epoch. If None, all epochs are trained.
        stops_when_learned: Whether to stop when the training loss is close to zero.
        seed: Random seed of the order of the batches.
        learning_rate: The rate that the user set or the method has, from which `rates` follow.
    """

    epochs: int
    batch_size: int
    rates: dict[str, float]
    label_smoothing: float = 0.0
    class_weights: bool = False
    gradient_accumulation: int = 1
    patience: int | None = None
    stops_when_learned: bool = False
    seed: int = 0
    learning_rate: float | None = None

    @classmethod
    def of(cls, settings: Settings, model: AdaptedModel, task: Task, *, rows: int) -> Recipe:
        """Creates a recipe, with defaults for all settings that are not given.

        Args:
            settings: The user's settings.
            model: An adapted model.
            task: The task of its head.
            rows: Number of training rows; each window of a long text counts as one.

        Returns:
            The recipe.
        """
        step = settings.batch_size * settings.gradient_accumulation
        return cls(
            epochs=settings.epochs or default_epochs(rows, step),
            batch_size=settings.batch_size,
            rates=default_rates(model, settings.learning_rate),
            label_smoothing=task.label_smoothing(_label_smoothing(settings, rows)),
            class_weights=settings.class_weights,
            gradient_accumulation=settings.gradient_accumulation,
            patience=settings.patience,
            stops_when_learned=settings.epochs is None,
            seed=settings.seed,
            learning_rate=settings.learning_rate,
        )


def _label_smoothing(settings: Settings, rows: int) -> float:
    if settings.label_smoothing is not None:
        return settings.label_smoothing
    return 0.0 if rows < FEW_ROWS else LABEL_SMOOTHING


def default_epochs(rows: int, batch_size: int) -> int:
    """Returns the default number of epochs: about 600 steps, but at least 3 and at most 20 epochs.

    The number of steps is what matters: few rows need many epochs, and many rows need few. Where 20 epochs are
    fewer than 200 steps, there are more epochs, up to 40.

    Args:
        rows: Number of training rows.
        batch_size: Rows per step.
    """
    steps = math.ceil(rows / batch_size)
    most = min(MOST_EPOCHS_OF_FEW_ROWS, max(MOST_EPOCHS, math.ceil(FEWEST_STEPS / steps)))
    return min(most, max(LEAST_EPOCHS, round(STEPS / steps)))


def default_rates(model: AdaptedModel, learning_rate: float | None = None) -> dict[str, float]:
    """Returns the peak learning rates of a model's one adapter, by the prefixes of its keys.

    Args:
        model: An adapted model.
        learning_rate: Rate of the adapter's first method, which replaces the method's own. All
            other rates scale with it.

    Returns:
        Peak learning rates by prefix.
    """
    (adapter,) = model.adapters.values()
    first = adapter.placements[0].method
    factor = (learning_rate or first.learning_rate) / first.learning_rate
    rates = {"head/": first.head_learning_rate * factor}
    rates |= {key: method.learning_rate * factor for key, method in adapter.movers.items()}
    for weights in adapter.site_weights:
        for beginning in (f"{weights.site.key}/{weights.method.name}/", f"{weights.method.name}/"):
            rates[beginning] = weights.method.learning_rate * factor
    keys = model.adapter_variables()
    return {start: rate for start, rate in rates.items() if any(key.startswith(start) for key in keys)}
