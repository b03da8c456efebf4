"""The training callback: scores, reports and saves each epoch, and stops early."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from keras_peft.core.adapted import AdaptedModel
from keras_peft.errors import OptionError
from keras_peft.memory import keep_freed_memory
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import Task
from keras_peft.training.checkpoint import Checkpoint, TrainingState
from keras_peft.training.distributed.processes import Alone, Processes
from keras_peft.training.epoch_loss import EpochLoss
from keras_peft.training.recipe import Recipe
from keras_peft.training.snapshot import changing_variables
from keras_peft.training.validation import Validation

# Chosen by experiment: docs/internals/decisions/0014-few-rows.md.
LEARNED = 0.01
"""Mean training loss of an epoch below which there is nothing left to learn."""
# If most rows or words have the same label, the loss is small from the start and says little about the others.
_LEARNED_SHARE = 0.02


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: the mean training loss, and the scores on the validation rows, if there are any."""

    epoch: int
    loss: float
    validation_loss: float | None
    metrics: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns the record as a plain dictionary."""
        content = asdict(self)
        return {**content, **content.pop("metrics")}

    def is_better(self, other: EpochRecord) -> bool:
        """Returns whether the main metric is higher than in `other`, or equal with a lower loss."""

        def goodness(record: EpochRecord) -> tuple[float, float]:
            return next(iter(record.metrics.values())), -(record.validation_loss or 0.0)

        return goodness(self) > goodness(other)


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a training run.

    Attributes:
        history: One record per epoch.
        best: The epoch, counted from 1, whose weights the model has.
        outputs: The model's outputs on the validation rows; None if there are none.
    """

    history: list[EpochRecord]
    best: int
    outputs: Any


class Watcher(keras.callbacks.Callback):
    """Scores the validation rows after each epoch, reports progress, saves the state and stops early."""

    def __init__(
        self,
        model: AdaptedModel,
        task: Task,
        validation: Validation | None,
        recipe: Recipe,
        progress: Progress,
        stopwatch: Stopwatch,
        checkpoint: Checkpoint | None,
        processes: Processes | None = None,
        epoch_loss: EpochLoss | None = None,
    ) -> None:
        super().__init__()
        self._processes, self._epoch_loss = processes or Alone(), epoch_loss or EpochLoss()
        self._loss = math.nan
        self._adapted = model
        self._stopwatch = stopwatch
        self._learning_rate = recipe.learning_rate or max(recipe.rates.values())
        self._epoch = 0
        self._patience, self._stops_when_learned = recipe.patience, recipe.stops_when_learned
        self._task = task
        self._validation = validation
        self._progress = progress
        self._checkpoint = checkpoint
        self._records: list[EpochRecord] = []
        self._outputs: Any = None
        self._best: tuple[int, list[np.ndarray]] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch, for messages."""
        self._epoch = epoch + 1

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps freed memory in the process from the first step of an epoch on."""
        if batch == 0:
            keep_freed_memory()
            self._epoch_loss.begin()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the step.

        Raises:
            OptionError: If the loss is no longer finite.
        """
        loss = self._loss = self._epoch_loss.after(batch, float((logs or {})["loss"]))
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss} at step {batch + 1} of epoch {self._epoch}")
        self._progress.stepped(loss=loss)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Scores and reports the epoch, saves the state, and decides whether to stop.

        Raises:
            OptionError: If the outputs are not finite.
        """
        logs = {} if logs is None else logs
        validation_loss, metrics = self._scored(epoch + 1)
        record = EpochRecord(
            epoch=epoch + 1, loss=self._loss, validation_loss=validation_loss, metrics=metrics
        )
        self._records.append(record)
        if validation_loss is not None:
            logs |= {"val_loss": validation_loss, **{f"val_{key}": value for key, value in metrics.items()}}
        self._progress.epoch_ended(epoch=record.epoch, loss=record.loss, metrics=record.metrics)
        _synchronise(self._adapted)
        if self._patience is not None and (
            self._best is None or record.is_better(self._records[self._best[0] - 1])
        ):
            self._best = (record.epoch, [np.array(one) for one in self._trained()])
        if self.is_enough():
            self.model.stop_training = True
        if self._checkpoint is not None:
            try:
                with self._stopwatch.measure("save"):
                    self._checkpoint.write(self._state())
            except OSError as error:  # Training can finish without checkpoints, even on a full disk.
                reason = error.strerror or str(error)
                self._progress.note(
                    f"{self._checkpoint.folder} cannot be written ({reason}); training continues without it"
                )
                self._checkpoint = None

    def _scored(self, epoch: int) -> tuple[float | None, dict[str, float]]:
        """Returns the loss and the metrics on the validation rows; without any, None and no metrics."""
        if self._validation is None:
            return None, {}
        with self._stopwatch.measure("evaluate"), self._processes.scoring(self._adapted):
            self._outputs = self._validation.outputs(self._adapted, epoch)
            if not _is_finite(self._outputs):
                raise self._diverged(f"the outputs are not finite after epoch {epoch}")
            scores = self._task.score(self._outputs, self._validation.truth)
        return scores.loss, scores.metrics

    def _diverged(self, what: str) -> OptionError:
        """Removes the checkpoint, because resuming from it would diverge again, and returns the error."""
        if self._checkpoint is not None:
            self._checkpoint.remove()
        return OptionError(
            f"Training diverged: {what}. Use a lower `learning_rate` than {self._learning_rate:g}; 'keras-peft "
            "find-rate' suggests one. Nothing was written."
        )

    def is_enough(self) -> bool:
        """Returns whether training should stop: the best epoch is long ago, or no loss is left."""
        if self._stops_when_learned and self._records:
            first, last = self._records[0].loss, self._records[-1].loss
            if last < min(LEARNED, _LEARNED_SHARE * first):
                return True
        if self._patience is None or self._best is None:
            return False
        return len(self._records) - self._best[0] >= self._patience

    def trained(self) -> TrainingOutcome:
        """Returns the outcome, after restoring the best epoch if `patience` is set."""
        best = len(self._records)
        if self._best is not None and self._best[0] != best:
            best, values = self._best
            for variable, value in zip(self._adapted.trainable_variables, values, strict=True):
                variable.assign(value)
            self._outputs = None
        if self._outputs is None and self._validation is not None:
            self._outputs = self._validation.outputs(self._adapted, best)
        return TrainingOutcome(self._records, best, self._outputs)

    def restore(self, state: TrainingState) -> None:
        """Restores the state at the end of an epoch.

        Args:
            state: The saved state.

        Raises:
            OptionError: If the state does not match the model.
        """
        tensors = dict(state.tensors)
        best = [tensors.pop(key) for key in sorted(tensors) if key.startswith("best/")]
        variables = self._moving()
        if {key: tuple(v.shape) for key, v in variables.items()} != {k: v.shape for k, v in tensors.items()}:
            raise OptionError(
                "The interrupted training run has different weights; train without `resume=True` to start over."
            )
        for key, variable in variables.items():
            variable.assign(tensors[key])
        self._records = [EpochRecord(**record) for record in state.content["history"]]
        if best:
            self._best = (int(state.content["best"]), best)

    def _state(self) -> TrainingState:
        tensors = {key: keras.ops.convert_to_numpy(value) for key, value in self._moving().items()}
        if self._best is not None:
            tensors |= {f"best/{number:06}": value for number, value in enumerate(self._best[1])}
        return TrainingState(
            tensors,
            {
                "epoch": len(self._records),
                "best": None if self._best is None else self._best[0],
                "history": [asdict(record) for record in self._records],
            },
        )

    def _trained(self) -> Iterator[np.ndarray]:
        return map(keras.ops.convert_to_numpy, self._adapted.trainable_variables)

    def _moving(self) -> dict[str, keras.Variable]:
        """Returns all variables that training changes: weights, random states, optimizer variables."""
        groups = {**changing_variables(self._adapted), "optimizer": self._adapted.optimizer.variables}
        return {
            f"{name}/{number:06}": variable
            for name, variables in groups.items()
            for number, variable in enumerate(variables)
        }


def _is_finite(outputs: Any) -> bool:
    if isinstance(outputs, list | tuple):
        return all(map(_is_finite, outputs))
    return bool(np.isfinite(outputs).all())


def _synchronise(model: keras.Model) -> None:
    """Copies the trained values into the model's variables; on JAX, `fit` keeps them elsewhere."""
    if keras.config.backend() == "jax":
        model.jax_state_sync()
