"""A model and rows to a trained model and the history of its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_peft.core.adapted import AdaptedModel
from keras_peft.progress import Progress
from keras_peft.runtime.rows import Rows
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import Task
from keras_peft.training.batches import TrainingBatches, by_token
from keras_peft.training.checkpoint import Checkpoint, State
from keras_peft.training.recipe import Recipe
from keras_peft.training.watcher import Trained, Watcher

# Found by measuring: docs/internals/decisions/0003-training-defaults.md.
WARMUP = 0.1
WEIGHT_DECAY = 0.01
GRADIENT_NORM = 1.0


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
    watcher = Watcher(model, task, validation, highest, recipe.patience, progress, stopwatch, checkpoint)
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
