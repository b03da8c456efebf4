"""A model and rows to a trained model and the history of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from keras_peft.batches import Rows, TrainingBatches
from keras_peft.core.adapted import AdaptedModel
from keras_peft.core.method import Method
from keras_peft.errors import OptionError
from keras_peft.evaluate import Scores, compute_logits, score
from keras_peft.inference import Inference
from keras_peft.memory import keep_freed_memory
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks.single_label import Task

# Found by measuring: docs/decisions/0003-training-defaults.md.
LEAST_EPOCHS = 3
MOST_EPOCHS = 30
WARMUP = 0.1
WEIGHT_DECAY = 0.01
GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: mean training loss, and the scores on the validation rows."""

    epoch: int
    loss: float
    validation_loss: float
    accuracy: float
    macro_f1: float

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary."""
        return asdict(self)


def default_epochs(method: type[Method], rows: int, batch_size: int) -> int:
    """Returns how many epochs to train when none are given.

    What counts is the number of steps: few rows need many epochs and many rows
    few. It is about `method.steps`, 600 of most, in no fewer than 3 and no more than
    30 epochs, or as many times that as the steps are of 600.
    """
    steps = math.ceil(rows / batch_size)
    epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, round(Method.steps / steps)))
    return round(epochs * method.steps / Method.steps)


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


def train(
    model: AdaptedModel,
    task: Task,
    *,
    training: tuple[Rows, np.ndarray],
    validation: tuple[Rows, np.ndarray],
    epochs: int,
    batch_size: int,
    rates: Mapping[str, float],
    label_smoothing: float,
    seed: int,
    progress: Progress,
    stopwatch: Stopwatch,
) -> tuple[list[EpochRecord], Scores]:
    """Compiles and fits a model with AdamW, warm-up and a cosine descent.

    Args:
        model: An adapted model with the task's head.
        task: What the head means.
        training: Rows and targets to train on.
        validation: Rows and targets to score on after each epoch.
        epochs: Times to see all rows.
        batch_size: Rows in a step.
        rates: The highest learning rates, by the beginnings of the model's keys. They
            are reached after the first tenth of the steps.
        label_smoothing: Share of each target that is spread over all labels.
        seed: Fixes the order of the batches.
        progress: Told of each step and epoch.
        stopwatch: Measures the scoring under "evaluate".

    Returns:
        A record of each epoch, and the last scores on the validation rows.

    Raises:
        OptionError: If the loss stops being a number, as under too high a rate.
    """
    highest = max(rates.values())
    batches = TrainingBatches(*training, batch_size=batch_size, seed=seed)
    steps = epochs * len(batches)
    warmup = max(1, round(WARMUP * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps - warmup),
        warmup_target=highest,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=GRADIENT_NORM)
    # Biases and scales are left alone: many of them mean nothing at 1 rather than at 0.
    single = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=single)
    # Compiling for each length costs more here than it saves.
    model.compile(
        optimizer,
        task.loss(label_smoothing),
        rates={key: rate / highest for key, rate in rates.items()},
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    watcher = _Watcher(task, validation, highest, progress, stopwatch)
    progress.started(epochs=epochs, steps=len(batches))
    try:
        model.fit(batches.for_fit(), epochs=epochs, shuffle=False, verbose=0, callbacks=[watcher])
    finally:
        progress.finished()
        batches.release()
    return watcher.records, watcher.scores


class _Watcher(keras.callbacks.Callback):
    """Scores the validation rows after each epoch and passes the news on."""

    def __init__(
        self,
        task: Task,
        validation: tuple[Rows, np.ndarray],
        learning_rate: float,
        progress: Progress,
        stopwatch: Stopwatch,
    ) -> None:
        super().__init__()
        self._stopwatch = stopwatch
        self._learning_rate = learning_rate
        self._task = task
        self._rows, self._truth = validation
        self._progress = progress
        self._run: Inference | None = None
        self.records: list[EpochRecord] = []
        self.scores: Scores

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == 0:
            keep_freed_memory()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            raise OptionError(
                f"Training diverged: the loss is {loss} after {batch + 1} steps of an epoch; use a smaller "
                f"--learning-rate than {self._learning_rate:g}."
            )
        self._progress.stepped(loss=loss)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with self._stopwatch.measure("evaluate"):
            self._run = self._run or Inference(self.model, self._rows.signature)
            probabilities = self._task.probabilities(compute_logits(self._run, self._rows))
            self.scores = score(self._task.labels, self._truth, probabilities)
        record = EpochRecord(
            epoch=epoch + 1,
            loss=float((logs or {})["loss"]),
            validation_loss=self.scores.loss,
            accuracy=self.scores.accuracy,
            macro_f1=self.scores.macro_f1,
        )
        self.records.append(record)
        self._progress.epoch_ended(
            epoch=record.epoch, loss=record.loss, accuracy=record.accuracy, macro_f1=record.macro_f1
        )
