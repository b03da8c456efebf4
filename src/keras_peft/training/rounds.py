"""The rounds of a training run: on the labelled rows, then on texts without labels as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_peft.progress import Progress
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.outputs import compute_outputs
from keras_peft.runtime.rows import EncodedRows, Subset
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import metric_name
from keras_peft.training.checkpoint import Checkpoint, TrainingState
from keras_peft.training.cross_fitting import CrossFit, cross_fit
from keras_peft.training.head_start import HeadStart
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.recipe import default_epochs
from keras_peft.training.self_training import WeightedRows, described, surest
from keras_peft.training.settings import Settings
from keras_peft.training.snapshot import Snapshot
from keras_peft.training.train import compile_for_training, fit, steps_of
from keras_peft.training.validation import HeldOut, Validation
from keras_peft.training.watcher import TrainingOutcome


class Rounds:
    """Trains a prepared model.

    Args:
        prepared: The prepared training.
        settings: The user's settings.
        sets: The rows of the sets in `prepared.tokens`.
        progress: Receives progress events.
        stopwatch: Measures scoring as "evaluate".
    """

    def __init__(
        self,
        prepared: PreparedTraining,
        settings: Settings,
        sets: Sequence[EncodedRows],
        *,
        progress: Progress,
        stopwatch: Stopwatch,
    ) -> None:
        self._prepared, self._settings = prepared, settings
        self._rows, *self._held_out = sets
        self._progress, self._stopwatch = progress, stopwatch
        self._model, self._task = prepared.model, prepared.task
        self._targets = self._task.targets(prepared.training.labels)
        self._truth = self._task.targets(prepared.held_out.labels)
        self._texts = np.arange(len(prepared.training))
        self._unlabelled = np.arange(len(prepared.unlabelled)) + len(self._texts)
        self._labelled: EncodedRows = Subset(self._rows, self._texts) if len(self._unlabelled) else self._rows
        self._start: HeadStart | None = None
        self._folds: CrossFit | None = None

    def train(
        self,
        *,
        checkpoint: Checkpoint | None = None,
        state: TrainingState | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> tuple[TrainingOutcome, dict[str, Any] | None]:
        """Trains on the labelled rows and, if there are any, on texts without labels.

        Args:
            checkpoint: Where to save the state after each epoch on the labelled rows.
            state: The saved state to resume from.
            callbacks: Keras callbacks.

        Returns:
            The outcome, and a description of the self-training, or None without it.
        """
        if self._prepared.starts_head:
            self._start = HeadStart(self._model, self._task, self._labelled, self._targets)
        recipe = self._prepared.recipe
        steps = steps_of(self._labelled, recipe)
        compile_for_training(self._model, self._task, recipe, steps=steps)
        initial = Snapshot(self._model)
        if self._prepared.folds:
            self._progress.stage(f"Validating on {len(self._prepared.folds)} folds")
            self._folds = cross_fit(
                self._prepared,
                self._rows,
                self._start,
                recipe=recipe,
                steps=steps,
                progress=self._progress,
                stopwatch=self._stopwatch,
            )
            self._progress.stage("Training on all rows")
        self._assign_start()
        outcome = fit(
            self._model,
            self._task,
            training=(self._labelled, self._targets),
            validation=self._validation(self._folds),
            recipe=recipe,
            callbacks=callbacks,
            checkpoint=checkpoint,
            state=state,
            progress=self._progress,
            stopwatch=self._stopwatch,
        )
        if not len(self._unlabelled):
            return outcome, None
        return self._self_train(outcome, initial, callbacks)

    def _self_train(
        self, first: TrainingOutcome, initial: Snapshot, callbacks: Sequence[keras.callbacks.Callback]
    ) -> tuple[TrainingOutcome, dict[str, Any]]:
        """Trains again, on the surest answers as well, and keeps the result if the score does not fall."""
        self._progress.stage(f"Answering {len(self._unlabelled):,} texts without labels")
        task, offset = self._task.calibrated(first.outputs, self._truth), len(self._texts)
        run = Inference(self._model, self._rows.signature)
        answers = compute_outputs(run, Subset(self._rows, self._unlabelled))
        pseudo = surest(task, answers, first=offset)
        chosen = WeightedRows.of(self._texts, self._targets).joined(pseudo)
        rows = Subset(self._rows, chosen.texts)
        recipe = self._prepared.recipe
        if self._settings.epochs is None:
            step = recipe.batch_size * recipe.gradient_accumulation
            recipe = replace(recipe, epochs=default_epochs(len(rows.lengths), step))
        steps = steps_of(rows, recipe)
        trained = Snapshot(self._model)
        initial.restore()
        compile_for_training(self._model, self._task, recipe, steps=steps)
        folds = None
        if self._folds is not None:
            self._progress.stage(f"Validating on {len(self._prepared.folds)} folds with these texts")
            pseudo_of_folds = [surest(task, one, first=offset) for one in self._folds.unlabelled]
            folds = cross_fit(
                self._prepared,
                self._rows,
                self._start,
                recipe=recipe,
                steps=steps,
                pseudo=pseudo_of_folds,
                progress=self._progress,
                stopwatch=self._stopwatch,
            )
        before = self._task.score(first.outputs, self._truth)
        report = {
            **described(task, pseudo, unlabelled=len(self._unlabelled)),
            "metric": next(iter(before.metrics)),
            "before": before.main,
        }
        if folds is not None:
            last = self._task.score(folds.validation.outputs(self._model, recipe.epochs), self._truth)
            if last.main < before.main:
                return self._kept(first, trained, {**report, "after": last.main})
            self._progress.stage("Training on all rows and these texts")
        self._assign_start()
        second = fit(
            self._model,
            self._task,
            training=(rows, chosen.targets),
            weights=chosen.weights,
            validation=self._validation(folds),
            recipe=recipe,
            callbacks=callbacks,
            progress=self._progress,
            stopwatch=self._stopwatch,
        )
        report["after"] = self._task.score(second.outputs, self._truth).main
        if report["after"] < report["before"]:
            return self._kept(first, trained, report)
        self._note(report, "kept")
        return second, {**report, "kept": True}

    def _kept(
        self, first: TrainingOutcome, trained: Snapshot, report: dict[str, Any]
    ) -> tuple[TrainingOutcome, dict[str, Any]]:
        """Restores the result of the first round."""
        trained.restore()
        self._note(report, "not kept")
        return first, {**report, "kept": False}

    def _note(self, report: dict[str, Any], kept: str) -> None:
        self._progress.note(
            f"Self-training on {report['used_rows']:,} of {report['unlabelled_rows']:,} texts without labels: "
            f"{metric_name(report['metric'])} {report['before']:.3f} before, {report['after']:.3f} after; {kept}"
        )

    def _assign_start(self) -> None:
        if self._start is not None:
            self._start.assign()

    def _validation(self, folds: CrossFit | None) -> Validation:
        return folds.validation if folds is not None else HeldOut(self._held_out[0], self._truth)
