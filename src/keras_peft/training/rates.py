"""Learning-rate finder: a short training run with a rising rate that records the loss at each rate.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks",
https://arxiv.org/abs/1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_peft.core.method import Method
from keras_peft.data.tables import Data
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.fine_tune import chosen_methods
from keras_peft.training.prepare import check_installed, prepare, read
from keras_peft.training.settings import Settings
from keras_peft.training.showing import shown

WITHOUT = ("learning_rate", "epochs", "patience", "abstain_below", "unlabelled")
"""Settings without effect here: the rate is searched for, and the number of steps is fixed."""
LOWEST, HIGHEST, STEPS = 1e-5, 3.0, 100
# Weight of the previous mean in the running mean.
_SMOOTHING = 0.9
# Rates found by a search are lower by this factor than the rate where half of the loss's total fall
# is reached, within a factor of 2: docs/internals/decisions/0003-training-defaults.md.
_BELOW = 2.5
# Number of losses that define the starting loss, and the smallest relative fall that counts.
_FIRST, _LEAST_FALL = 5, 0.02
# The search stops at this multiple of the lowest loss.
_PAST_USE = 2.0


@dataclass(frozen=True)
class RateSearch:
    """The result of `find_rate`.

    Attributes:
        rates: The learning rates, in ascending order.
        losses: Running mean of the loss at each rate.
        suggestion: The learning rate to train with.
        seconds: Seconds per stage.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        return {**vars(self), "rates": list(self.rates), "losses": list(self.losses)}


def find_rate(
    data: Data,
    *,
    method: Method | str | Sequence[Method | str] | None = None,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    progress: Progress | None = None,
    **settings: Any,
) -> RateSearch:
    """Trains for some steps with a rising learning rate and suggests the rate to train with.

    Args:
        data: Labelled text: the path of a file or folder, a list of dicts or of (text, label) pairs, a dict of
            columns, or a frame of pandas, Polars, Arrow or Hugging Face Datasets; see `read_examples`.
        method: The method or its name; `LoRA()` by default. A sequence of methods is combined into one
            adapter, and the rate is that of the first.
        lowest: Learning rate of the first step.
        highest: Learning rate of the last step. The search stops earlier if the loss diverges.
        steps: Number of steps.
        progress: Receives progress events: an instance of `keras_peft.progress.Progress`. By default, bars are
            shown on a terminal and in a notebook; `Progress()` shows nothing.
        settings: Training settings: any argument of `Settings` except `learning_rate`, `epochs`,
            `patience` and `abstain_below`.

    Returns:
        The rates, the losses and the suggested rate.

    Raises:
        KerasPeftError: If an argument or the data cannot be used, or the loss never falls.

    Example:
        >>> keras_peft.find_rate("conversations.jsonl", method=keras_peft.BitFit()).suggestion
        0.004
    """
    check_installed()
    if not 0 < lowest < highest:
        raise OptionError(
            f"`lowest={lowest:g}` and `highest={highest:g}`: expected two rates above 0, the lower first."
        )
    if steps < 10:
        raise OptionError(f"`steps={steps}`: expected 10 or more.")
    progress, stopwatch = shown(progress), Stopwatch()
    chosen = Settings.of(settings, without=WITHOUT)
    training, held_out = read(data, chosen, progress)
    prepared = prepare(
        training,
        held_out,
        chosen_methods(method),
        chosen,
        progress=progress,
        stopwatch=stopwatch,
    )

    import keras

    from keras_peft.training.head_start import HeadStart
    from keras_peft.training.train import compile_model, training_batches

    task, model, recipe = prepared.task, prepared.model, prepared.recipe
    # Ratio of the first method's rate to the highest rate of all weights.
    share = prepared.settings["learning_rate"] / max(recipe.rates.values())
    # Keras's schedules count batches, including those whose gradients are only accumulated.
    count = steps * recipe.gradient_accumulation
    growth = (highest / lowest) ** (1 / (count - 1))
    schedule = keras.optimizers.schedules.ExponentialDecay(lowest / share, 1, growth)
    losses: list[float] = []
    with (
        prepared.rows(trunk_cache=chosen.trunk_cache, progress=progress, stopwatch=stopwatch) as (sets, _),
        stopwatch.measure("train"),
    ):
        targets = task.targets(training.labels)
        if prepared.starts_head:
            HeadStart(model, task, sets[0], targets).assign()
        batches = training_batches(task, sets[0], targets, recipe)
        compile_model(model, task.loss(recipe.label_smoothing), recipe, schedule)
        progress.started(epochs=1, steps=count, done=0)
        try:
            for step in range(count):
                model.reset_metrics()  # So that the loss is that of this batch alone.
                losses.append(float(model.train_on_batch(*batches[step % len(batches)])))
                if (step + 1) % len(batches) == 0:
                    batches.on_epoch_end()
                progress.stepped(loss=losses[-1])
                if not math.isfinite(losses[-1]) or is_past_use(smoothed(losses)):
                    break
        finally:
            progress.finished()
    finite = [loss for loss in losses if math.isfinite(loss)]
    means = smoothed(finite)
    rates = [lowest * growth**step for step in range(len(means))]
    return RateSearch(tuple(rates), tuple(means), suggest(rates, means), stopwatch.read())


def smoothed(losses: Sequence[float]) -> list[float]:
    """Returns the running mean of losses, weighted towards the latest.

    Args:
        losses: The loss of each step.

    Returns:
        The exponential moving average at each step, without bias towards zero.
    """
    means, mean, weight = [], 0.0, 0.0
    for loss in losses:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        means.append(mean / weight)
    return means


def is_past_use(means: Sequence[float]) -> bool:
    """Returns whether the latest loss is so far above the lowest that the search can stop.

    Args:
        means: Running means of the loss.
    """
    return means[-1] > _PAST_USE * min(means)


def suggest(rates: Sequence[float], means: Sequence[float]) -> float:
    """Suggests a rate: the rate at half of the loss's fall, divided by `_BELOW`.

    Args:
        rates: The learning rates, in ascending order.
        means: Running mean of the loss at each rate.

    Returns:
        The suggested rate, to two significant digits.

    Raises:
        OptionError: If the loss never falls.
    """
    start = sum(means[:_FIRST]) / len(means[:_FIRST])
    fall = start - min(means)
    if means.index(min(means)) < _FIRST or fall < _LEAST_FALL * start:
        raise OptionError(
            f"The loss did not fall between the rates {rates[0]:g} and {rates[-1]:g}, so no rate can be suggested; "
            "widen `lowest` and `highest`, raise `steps`, or check that the texts determine the labels."
        )
    half = next(place for place, mean in enumerate(means) if mean <= start - fall / 2)
    return float(f"{rates[half] / _BELOW:.2g}")
