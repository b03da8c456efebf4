"""A model and rows to a trained model and the history of its training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from keras_peft.core.adapted import AdaptedModel
from keras_peft.errors import OptionError
from keras_peft.memory import keep_freed_memory
from keras_peft.progress import Progress
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.outputs import compute_outputs
from keras_peft.runtime.rows import Rows
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import Task
from keras_peft.training.batches import TrainingBatches, by_token
from keras_peft.training.checkpoint import Checkpoint, State

# Found by measuring: docs/decisions/0003-training-defaults.md.
STEPS = 600
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
    metrics: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary."""
        content = asdict(self)
        return {**content, **content.pop("metrics")}

    def is_better(self, other: EpochRecord) -> bool:
        """Tells whether this epoch's main figure is higher, or as high with a lower loss."""

        def goodness(record: EpochRecord) -> tuple[float, float]:
            return next(iter(record.metrics.values())), -record.validation_loss

        return goodness(self) > goodness(other)


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


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        history: A record of each epoch.
        best: The epoch, counted from 1, whose weights the model has.
        outputs: Its outputs on the validation rows.
    """

    history: list[EpochRecord]
    best: int
    outputs: Any


def train(
    model: AdaptedModel,
    task: Task,
    *,
    training: tuple[Rows, Any],
    validation: tuple[Rows, Any],
    recipe: Recipe,
    progress: Progress,
    stopwatch: Stopwatch,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
    state: State | None = None,
) -> Trained:
    """Compiles and fits a model with AdamW, warm-up and a cosine descent.

    Args:
        model: An adapted model with the task's head.
        task: What the head means.
        training: Rows and targets to train on.
        validation: Rows and targets to score on after each epoch.
        recipe: How to train.
        progress: Told of each step and epoch.
        stopwatch: Measures the scoring under "evaluate".
        callbacks: Keras's own or the user's. After each epoch they find the validation
            scores among the logs, as `val_loss`, `val_accuracy` and so on.
        checkpoint: Where to keep the state after each epoch.
        state: What was kept there, to go on from.

    Raises:
        OptionError: If the loss stops being a number, as under too high a rate.
    """
    epoch = 0 if state is None else int(state.content["epoch"])
    batches = training_batches(task, *training, recipe, epoch=epoch)
    highest = max(recipe.rates.values())
    # Keras's schedules count batches, also those whose gradients wait for others.
    steps = recipe.epochs * len(batches)
    warmup = max(1, round(WARMUP * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps - warmup),
        warmup_target=highest,
        warmup_steps=warmup,
    )
    compile_model(model, task, recipe, schedule)
    watcher = _Watcher(model, task, validation, highest, recipe.patience, progress, stopwatch, checkpoint)
    if state is not None:
        watcher.restore(state)
    progress.started(epochs=recipe.epochs, steps=len(batches), done=epoch)
    try:
        if epoch < recipe.epochs and not watcher.is_enough():
            model.fit(
                batches.for_fit(),
                initial_epoch=epoch,
                epochs=recipe.epochs,
                shuffle=False,
                verbose=0,
                callbacks=[watcher, *callbacks],
            )
    finally:
        progress.finished()
        batches.release()
    return watcher.trained()


def training_batches(
    task: Task, rows: Rows, targets: Any, recipe: Recipe, *, epoch: int = 0
) -> TrainingBatches:
    """Cuts rows into the batches of a training.

    Args:
        task: What the targets mean.
        rows: The rows.
        targets: One for each text.
        recipe: How to train.
        epoch: The epoch to begin with, counted from 0.
    """
    # The weights are made of what the task tells, before words become tokens.
    weights = task.weights(targets) if recipe.class_weights else None
    if rows.owners is not None:  # A text counts the same, however many windows it has.
        share = 1 / np.bincount(rows.owners)[rows.owners] * (len(rows.owners) / len(targets))
        weights = np.asarray(share if weights is None else weights[rows.owners] * share, np.float32)
        targets = targets[rows.owners]
    return TrainingBatches(
        rows,
        by_token(rows, targets),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        weights=weights,
        epoch=epoch,
    )


def compile_model(model: AdaptedModel, task: Task, recipe: Recipe, schedule: Any) -> None:
    """Compiles a model with AdamW on a schedule of learning rates, of which each weight has its share.

    Args:
        model: An adapted model with the task's head.
        task: What the head means.
        recipe: How to train.
        schedule: The learning rates of what learns fastest.
    """
    highest = max(recipe.rates.values())
    accumulation = recipe.gradient_accumulation
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=WEIGHT_DECAY,
        global_clipnorm=GRADIENT_NORM,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    # Biases and scales are left alone: many of them mean nothing at 1 rather than at 0.
    single = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=single)
    # Compiling for each length costs more here than it saves.
    model.compile(
        optimizer,
        task.loss(recipe.label_smoothing),
        rates={key: rate / highest for key, rate in recipe.rates.items()},
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    optimizer.build(model.trainable_variables)


class _Watcher(keras.callbacks.Callback):
    """Scores the validation rows after each epoch, passes the news on, keeps the state, and stops in time."""

    def __init__(
        self,
        model: AdaptedModel,
        task: Task,
        validation: tuple[Rows, Any],
        learning_rate: float,
        patience: int | None,
        progress: Progress,
        stopwatch: Stopwatch,
        checkpoint: Checkpoint | None,
    ) -> None:
        super().__init__()
        self._adapted = model
        self._stopwatch = stopwatch
        self._learning_rate = learning_rate
        self._patience = patience
        self._task = task
        self._rows, self._truth = validation
        self._progress = progress
        self._checkpoint = checkpoint
        self._run: Inference | None = None
        self._records: list[EpochRecord] = []
        self._outputs: Any = None
        self._best: tuple[int, list[np.ndarray]] | None = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == 0:
            keep_freed_memory()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            if self._checkpoint is not None:  # From there it would go the same way.
                self._checkpoint.remove()
            raise OptionError(
                f"Training diverged: the loss is {loss} after {batch + 1} steps of an epoch; use a smaller "
                f"--learning-rate than {self._learning_rate:g}."
            )
        self._progress.stepped(loss=loss)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        with self._stopwatch.measure("evaluate"):
            self._outputs = self._compute()
            scores = self._task.score(self._outputs, self._truth)
        record = EpochRecord(
            epoch=epoch + 1, loss=float(logs["loss"]), validation_loss=scores.loss, metrics=scores.metrics
        )
        self._records.append(record)
        logs |= {"val_loss": scores.loss, **{f"val_{key}": value for key, value in scores.metrics.items()}}
        self._progress.epoch_ended(epoch=record.epoch, loss=record.loss, metrics=record.metrics)
        _synchronise(self._adapted)
        if self._patience is not None:
            if self._best is None or record.is_better(self._records[self._best[0] - 1]):
                self._best = (record.epoch, [np.array(one) for one in self._trained()])
            self.model.stop_training = self.is_enough()
        if self._checkpoint is not None:
            try:
                with self._stopwatch.measure("save"):
                    self._checkpoint.write(self._state())
            except OSError as error:  # A full disk shall not end what can end well without.
                reason = error.strerror or str(error)
                self._progress.note(
                    f"{self._checkpoint.folder} cannot be written ({reason}); going on without it"
                )
                self._checkpoint = None

    def is_enough(self) -> bool:
        """Tells whether the best epoch is so long ago that training should stop."""
        if self._patience is None or self._best is None:
            return False
        return len(self._records) - self._best[0] >= self._patience

    def trained(self) -> Trained:
        """Returns what came of it, after going back to the best epoch if that is asked for."""
        best = len(self._records)
        if self._best is not None and self._best[0] != best:
            best, values = self._best
            for variable, value in zip(self._adapted.trainable_variables, values, strict=True):
                variable.assign(value)
            self._outputs = None
        if self._outputs is None:
            self._outputs = self._compute()
        return Trained(self._records, best, self._outputs)

    def restore(self, state: State) -> None:
        """Puts everything back as it was at the end of an epoch.

        Raises:
            OptionError: If the state does not fit.
        """
        tensors = dict(state.tensors)
        best = [tensors.pop(key) for key in sorted(tensors) if key.startswith("best/")]
        variables = self._moving()
        if {key: tuple(v.shape) for key, v in variables.items()} != {k: v.shape for k, v in tensors.items()}:
            raise OptionError(
                "The state of the interrupted training has other weights; train without --resume to begin again."
            )
        for key, variable in variables.items():
            variable.assign(tensors[key])
        self._records = [EpochRecord(**record) for record in state.content["history"]]
        if best:
            self._best = (int(state.content["best"]), best)

    def _compute(self) -> Any:
        self._run = self._run or Inference(self._adapted, self._rows.signature)
        return compute_outputs(self._run, self._rows)

    def _state(self) -> State:
        tensors = {key: keras.ops.convert_to_numpy(value) for key, value in self._moving().items()}
        if self._best is not None:
            tensors |= {f"best/{number:06}": value for number, value in enumerate(self._best[1])}
        return State(
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
        """All that training changes: what trains, the states of random numbers, the optimizer's variables."""
        # Of the base only what trains moves, and the means that are shown begin anew in each epoch.
        still = {id(one) for one in [*self._adapted.base.variables, *self._adapted.metrics_variables]}
        trained = self._adapted.trainable_variables
        others = [one for one in self._adapted.variables if not one.trainable and id(one) not in still]
        groups = {"trained": trained, "other": others, "optimizer": self._adapted.optimizer.variables}
        return {
            f"{name}/{number:06}": variable
            for name, variables in groups.items()
            for number, variable in enumerate(variables)
        }


def _synchronise(model: keras.Model) -> None:
    """JAX keeps what trains elsewhere while it trains."""
    if keras.config.backend() == "jax":
        model.jax_state_sync()
