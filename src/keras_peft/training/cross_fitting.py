"""Cross-fitting: every row is scored by a model that was trained on the other folds.

With few rows, a held-out share says little, and training lacks it. Here every row counts for both:
Stone 1974, https://doi.org/10.1111/j.2517-6161.1974.tb00994.x.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_peft.progress import Progress
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.rows import EncodedRows, Subset
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import Task
from keras_peft.training.checkpoint import Checkpoint
from keras_peft.training.distributed.processes import Processes
from keras_peft.training.fold_outputs import FoldOutputs
from keras_peft.training.head_start import HeadStart
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.recipe import Recipe
from keras_peft.training.self_training import PseudoLabels, WeightedRows
from keras_peft.training.snapshot import Snapshot
from keras_peft.training.train import fit
from keras_peft.training.validation import HeldOut, OutOfFold


@dataclass(frozen=True)
class CrossFit:
    """The outputs of models that were trained without a fold.

    Attributes:
        validation: The outputs on the labelled rows.
        unlabelled: The outputs of each model on the rows without labels.
    """

    validation: OutOfFold
    unlabelled: list[Any]


def cross_fit(
    prepared: PreparedTraining,
    rows: EncodedRows,
    start: HeadStart | None,
    *,
    recipe: Recipe,
    steps: int,
    progress: Progress,
    stopwatch: Stopwatch,
    pseudo: Sequence[PseudoLabels] = (),
    checkpoint: Checkpoint | None = None,
) -> CrossFit:
    """Trains once per fold on the rows of the other folds, and collects the outputs on the fold.

    Args:
        prepared: The prepared training. Its model is compiled, and has its initial weights afterwards.
        rows: The training rows, followed by those without labels.
        start: The start of the head, if there is one.
        recipe: The recipe.
        steps: Number of batches in an epoch, for which the model is compiled.
        progress: Receives progress events.
        stopwatch: Measures scoring as "evaluate".
        pseudo: Pseudo-labels to train on as well, for each fold.
        checkpoint: Where to save the outputs of each fold; those that are saved there are not trained again.

    Returns:
        The outputs on every labelled row after each epoch, and on those without labels at the end of each
        fold.
    """
    task, model, processes = prepared.task, prepared.model, prepared.processes
    targets = task.targets(prepared.training.labels)
    unlabelled = np.arange(len(prepared.unlabelled)) + len(prepared.training)
    initial = Snapshot(model)
    run = Inference(model, rows.signature)
    saved = FoldOutputs.read(checkpoint)
    done = len(saved.epochs)
    # One bar for all folds; the scores of each epoch are known only after the last one.
    shared = _FoldProgress(progress)
    for number, (outputs, (_, held_out)) in enumerate(zip(saved.epochs, prepared.folds, strict=False)):
        shared.saved(number, outputs, task, _at(targets, held_out))
    if done:
        progress.note(f"Resuming after fold {done} of {len(prepared.folds)}")
    progress.started(epochs=recipe.epochs * len(prepared.folds), steps=steps, done=recipe.epochs * done)
    try:
        for number, (training, held_out) in enumerate(prepared.folds[done:], done):
            initial.restore()
            shared.fold = number
            if start is not None:
                start.assign(training)
            chosen = WeightedRows.of(training, _at(targets, training))
            if pseudo:
                chosen = chosen.joined(pseudo[number])
            kept = _Kept(run, Subset(rows, held_out), _at(targets, held_out), processes)
            # As many steps as on all rows, so that the compiled schedule fits.
            others = Subset(rows, chosen.texts)
            batch_size = math.ceil(len(others.lengths) / steps)
            fit(
                model,
                task,
                training=(others, chosen.targets),
                weights=chosen.weights,
                validation=kept,
                recipe=replace(recipe, batch_size=batch_size, patience=None),
                progress=shared,
                stopwatch=stopwatch,
                processes=processes,
            )
            answers = None
            if len(unlabelled) and not pseudo:
                answers = processes.outputs(run, Subset(rows, unlabelled), repeatedly=True)
            saved.add(kept.epochs, answers)
    finally:
        progress.finished()
    initial.restore()
    epochs = [
        # A fold may have stopped before the last epoch.
        _joined(
            [
                (held_out, outputs[min(epoch, len(outputs) - 1)])
                for (_, held_out), outputs in zip(prepared.folds, saved.epochs, strict=True)
            ]
        )
        for epoch in range(recipe.epochs)
    ]
    return CrossFit(OutOfFold(epochs, targets), saved.unlabelled)


class _Kept(HeldOut):
    """Held-out rows that keep the outputs of every epoch."""

    def __init__(self, run: Inference, rows: EncodedRows, truth: Any, processes: Processes) -> None:
        super().__init__(rows, truth, processes)
        self._run = run
        self.epochs: list[Any] = []

    def outputs(self, model: Any, epoch: int) -> Any:
        """Computes and keeps the outputs of the model."""
        self.epochs.append(super().outputs(model, epoch))
        return self.epochs[-1]


class _FoldProgress(Progress):
    """Reports the steps of a fold, and its epochs as those of a fold."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.fold = 0

    def note(self, text: str) -> None:
        self._progress.note(text)

    def stepped(self, *, loss: float) -> None:
        self._progress.stepped(loss=loss)

    def epoch_ended(self, *, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        self._progress.fold_epoch_ended(fold=self.fold, epoch=epoch, metrics=metrics)

    def saved(self, fold: int, outputs: Sequence[Any], task: Task, targets: Any) -> None:
        """Reports the epochs of a fold that was trained before an interruption."""
        for epoch, one in enumerate(outputs, 1):
            self._progress.fold_epoch_ended(fold=fold, epoch=epoch, metrics=task.score(one, targets).metrics)


def _at(targets: Any, rows: np.ndarray) -> Any:
    """Returns the targets of some rows."""
    return targets[rows] if isinstance(targets, np.ndarray) else [targets[row] for row in rows]


def _joined(parts: Sequence[tuple[np.ndarray, Any]]) -> Any:
    """Puts the outputs of the folds in the order of the rows."""
    rows: list[Any] = [None] * sum(len(held_out) for held_out, _ in parts)
    for held_out, outputs in parts:
        for row, output in zip(held_out, outputs, strict=True):
            rows[row] = output
    return np.stack(rows) if isinstance(parts[0][1], np.ndarray) else rows
