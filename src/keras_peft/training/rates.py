"""The learning-rate finder: one short training in which the rate rises, and the loss at each.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks",
https://arxiv.org/abs/1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.core.method import Method
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.fine_tune import as_methods
from keras_peft.training.prepare import check_installed, prepare, read
from keras_peft.training.settings import Settings

WITHOUT = ("learning_rate", "epochs", "patience", "abstain_below")
"""Settings that mean nothing here: the rate is looked for, and the steps are counted."""
LOWEST, HIGHEST, STEPS = 1e-5, 3.0, 100
# How much of the mean is what came before.
_SMOOTHING = 0.9
# Rates that were searched for lie so far below the one where the loss has fallen by half of its whole
# fall, within a factor of 2: docs/internals/decisions/0003-training-defaults.md.
_BELOW = 2.5
# How many losses show where it begins, and the least fall that is no chance.
_FIRST, _LEAST_FALL = 5, 0.02
# A loss so many times the lowest is past all use.
_PAST_USE = 2.0


@dataclass(frozen=True)
class RateSearch:
    """What came of it.

    Attributes:
        rates: The learning rates, rising.
        losses: The loss at each, a running mean.
        suggestion: The rate to train with.
        seconds: How long the stages took.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {**vars(self), "rates": list(self.rates), "losses": list(self.losses)}


def find_rate(
    data: str | Path,
    *,
    method: Method | Sequence[Method] | None = None,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    progress: Progress | None = None,
    **settings: Any,
) -> RateSearch:
    """Trains for some steps with a rate that rises, and suggests the rate to train with.

    Args:
        data: What `read_rows` reads.
        method: The method; `LoRA()` by default. Several make one adapter together, and the
            rate is that of the first.
        lowest: The rate of the first step.
        highest: The rate of the last, if the loss does not grow out of bounds before.
        steps: Number of steps.
        progress: Told of what happens.
        settings: How to train: any of the arguments of `Settings` but those in `WITHOUT`.

    Raises:
        KerasPeftError: If anything that was given cannot be used, or the loss never falls.

    Example:
        >>> keras_peft.find_rate("conversations.jsonl", method=keras_peft.BitFit()).suggestion
        0.004
    """
    check_installed()
    if not 0 < lowest < highest:
        raise OptionError(
            f"`lowest={lowest:g}` and `highest={highest:g}`: expected two rates above 0, rising."
        )
    if steps < 10:
        raise OptionError(f"`steps={steps}`: expected 10 or more.")
    progress, stopwatch = progress or Progress(), Stopwatch()
    chosen = Settings.of(settings, without=WITHOUT)
    progress.stage(f"Reading {data}")
    training, held_out = read(data, chosen)
    prepared = prepare(training, held_out, as_methods(method), chosen, progress=progress, stopwatch=stopwatch)

    import keras

    from keras_peft.training.train import compile_model, training_batches

    task, model, recipe = prepared.task, prepared.model, prepared.recipe
    # What the rate of the first method is to that of what learns fastest.
    share = prepared.settings["learning_rate"] / max(recipe.rates.values())
    # Keras's schedules count batches, also those whose gradients wait for others.
    count = steps * recipe.gradient_accumulation
    growth = (highest / lowest) ** (1 / (count - 1))
    schedule = keras.optimizers.schedules.ExponentialDecay(lowest / share, 1, growth)
    losses: list[float] = []
    with (
        prepared.rows(trunk_cache=chosen.trunk_cache, progress=progress, stopwatch=stopwatch) as (sets, _),
        stopwatch.measure("train"),
    ):
        batches = training_batches(task, sets[0], task.targets(training.labels), recipe)
        compile_model(model, task, recipe, schedule)
        progress.started(epochs=1, steps=count, done=0)
        try:
            for step in range(count):
                model.reset_metrics()  # The loss of this batch alone.
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
    """Returns the running mean of losses, in which the latest count most."""
    means, mean, weight = [], 0.0, 0.0
    for loss in losses:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        means.append(mean / weight)
    return means


def is_past_use(means: Sequence[float]) -> bool:
    """Tells whether the latest loss is so far above the lowest that higher rates tell nothing."""
    return means[-1] > _PAST_USE * min(means)


def suggest(rates: Sequence[float], means: Sequence[float]) -> float:
    """Suggests a rate: where the loss has done half of its fall, over `_BELOW`.

    Args:
        rates: The learning rates, rising.
        means: The running mean of the loss at each.

    Raises:
        OptionError: If the loss never falls.
    """
    start = sum(means[:_FIRST]) / len(means[:_FIRST])
    fall = start - min(means)
    if means.index(min(means)) < _FIRST or fall < _LEAST_FALL * start:
        raise OptionError(
            f"The loss did not fall between the rates {rates[0]:g} and {rates[-1]:g}, so none can be chosen; "
            "widen `lowest` and `highest`, take more `steps`, or see whether the labels can be told from the texts."
        )
    half = next(place for place, mean in enumerate(means) if mean <= start - fall / 2)
    return float(f"{rates[half] / _BELOW:.2g}")
