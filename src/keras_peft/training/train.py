"""Training: from a model and rows to a trained model and its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_peft.core.adapted import AdaptedModel
from keras_peft.progress import Progress
from keras_peft.runtime.rows import EncodedRows
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import Task
from keras_peft.training.batches import TrainingBatches, batch_count, by_token
from keras_peft.training.checkpoint import Checkpoint, TrainingState
from keras_peft.training.distributed.processes import Alone, Processes
from keras_peft.training.epoch_loss import EpochLoss
from keras_peft.training.recipe import Recipe
from keras_peft.training.validation import Validation
from keras_peft.training.watcher import TrainingOutcome, Watcher

# Chosen by experiment: docs/internals/decisions/0003-training-defaults.md.
WARMUP = 0.1
WEIGHT_DECAY = 0.01
GRADIENT_NORM = 1.0


def fit(
    model: AdaptedModel,
    task: Task,
    *,
    training: tuple[EncodedRows, Any],
    validation: Validation | None,
    recipe: Recipe,
    progress: Progress,
    stopwatch: Stopwatch,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
    state: TrainingState | None = None,
    weights: np.ndarray | None = None,
    processes: Processes | None = None,
) -> TrainingOutcome:
    """Fits a model that `compile_for_training` compiled.

    Args:
        model: An adapted model with the task's head.
        task: The task of the head.
        training: Rows and targets to train on.
        validation: What to score after each epoch, if anything.
        recipe: The training recipe.
        progress: Receives an event for each step and epoch.
        stopwatch: Measures scoring as "evaluate".
        callbacks: Keras callbacks. At the end of each epoch, their logs include the validation
            scores as `val_loss`, `val_accuracy` and so on.
        checkpoint: Where to save the state after each epoch.
        state: The saved state to resume from.
        weights: Weights of the texts, (texts,) float32; equal by default.
        processes: The processes that train together; this one alone by default.

    Returns:
        The history, the best epoch and its outputs on the validation rows, if there are any.

    Raises:
        OptionError: If the loss is no longer finite, for example because of a high rate.
    """
    epoch = 0 if state is None else int(state.content["epoch"])
    batches = training_batches(task, *training, recipe, epoch=epoch, weights=weights)
    processes = processes or Alone()
    loss = EpochLoss(batches.size, processes.added_rows)
    watcher = Watcher(
        model, task, validation, recipe, progress, stopwatch, checkpoint, processes, epoch_loss=loss
    )
    if state is not None:
        watcher.restore(state)
    progress.started(epochs=recipe.epochs, steps=len(batches), done=epoch)
    try:
        if epoch < recipe.epochs and not watcher.is_enough():
            with processes.training(model):
                model.fit(
                    processes.batches(batches),
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


def steps_of(rows: EncodedRows, recipe: Recipe) -> int:
    """Returns the number of batches in an epoch.

    Args:
        rows: The training rows.
        recipe: The training recipe.
    """
    return batch_count(len(rows.lengths), recipe.batch_size)


def training_batches(
    task: Task,
    rows: EncodedRows,
    targets: Any,
    recipe: Recipe,
    *,
    epoch: int = 0,
    weights: np.ndarray | None = None,
) -> TrainingBatches:
    """Groups rows into training batches.

    Args:
        task: The task of the targets.
        rows: The training rows.
        targets: One target per text.
        recipe: The training recipe.
        epoch: The epoch to start with, counted from 0.
        weights: One weight per text; equal by default.

    Returns:
        The batches.
    """
    # Class weights need the targets per word, so compute them before `by_token`.
    by_class = task.weights(targets) if recipe.class_weights else None
    if by_class is not None:
        weights = by_class if weights is None else weights * by_class
    if rows.owners is not None:  # All texts have the same weight, regardless of their number of windows.
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


def compile_for_training(model: AdaptedModel, loss: keras.Loss, recipe: Recipe, *, steps: int) -> None:
    """Compiles a model with AdamW, linear warm-up and cosine decay.

    Args:
        model: An adapted model with a head.
        loss: The loss on its outputs.
        recipe: The training recipe.
        steps: Number of batches in an epoch.
    """
    # Keras's schedules count batches, including those whose gradients are only accumulated.
    total = recipe.epochs * steps
    warmup = max(1, round(WARMUP * total))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, total - warmup),
        warmup_target=max(recipe.rates.values()),
        warmup_steps=warmup,
    )
    compile_model(model, loss, recipe, schedule)


def compile_model(model: AdaptedModel, loss: keras.Loss, recipe: Recipe, schedule: Any) -> None:
    """Compiles a model with AdamW and a learning-rate schedule, scaled for each weight.

    Args:
        model: An adapted model with a head.
        loss: The loss on its outputs.
        recipe: The training recipe.
        schedule: Learning-rate schedule of the weights with the highest rate.
    """
    highest = max(recipe.rates.values())
    accumulation = recipe.gradient_accumulation
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=WEIGHT_DECAY,
        global_clipnorm=GRADIENT_NORM,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    # No decay for biases and scales: many of them are neutral at 1, not at 0.
    single = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=single)
    # Compilation for each length costs more than it saves.
    model.compile(
        optimizer,
        loss,
        rates={key: rate / highest for key, rate in recipe.rates.items()},
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    optimizer.build(model.trainable_variables)
