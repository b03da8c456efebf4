"""The rounds of a training run: on the labelled rows, and then with what the texts teach without labels.

The first round always counts. A later one is kept only if the validation score does not fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_peft.progress import Progress
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.rows import EncodedRows, Subset
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import metric_name
from keras_peft.training.checkpoint import Checkpoint, TrainingState
from keras_peft.training.cross_fitting import CrossFit, cross_fit
from keras_peft.training.head_start import HeadStart
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.recipe import Recipe, default_epochs
from keras_peft.training.self_training import PseudoLabels, WeightedRows, described, surest
from keras_peft.training.settings import Settings
from keras_peft.training.snapshot import Snapshot
from keras_peft.training.train import compile_for_training, fit, steps_of
from keras_peft.training.validation import HeldOut, Validation
from keras_peft.training.watcher import TrainingOutcome


@dataclass(frozen=True)
class Trained:
    """What all rounds led to.

    Attributes:
        outcome: The outcome of the last round that was kept.
        adapt_first: Description of the round that started from an adapter that was adapted to the texts, or None
            if there was none.
        self_training: Description of the round on pseudo-labels, or None if there was none.
    """

    outcome: TrainingOutcome
    adapt_first: dict[str, Any] | None = None
    self_training: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Plan:
    """What a round trains on.

    Attributes:
        rows: The rows, with their targets and weights.
        recipe: The recipe.
        pseudo: The pseudo-labels to train each fold on as well.
    """

    rows: WeightedRows
    recipe: Recipe
    pseudo: Sequence[PseudoLabels] = ()


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
        self._progress, self._stopwatch, self._processes = progress, stopwatch, prepared.processes
        self._model, self._task = prepared.model, prepared.task
        self._truth = self._task.targets(prepared.held_out.labels)
        self._labelled = WeightedRows.of(
            np.arange(len(prepared.training)), self._task.targets(prepared.training.labels)
        )
        self._unlabelled = np.arange(len(prepared.unlabelled)) + len(prepared.training)
        self._initial: Snapshot
        self._start: HeadStart | None = None
        self._folds: CrossFit | None = None

    def train(
        self,
        *,
        checkpoint: Checkpoint | None = None,
        state: TrainingState | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> Trained:
        """Trains all rounds.

        Args:
            checkpoint: Where to save the state after each epoch of the first round.
            state: The saved state to resume from.
            callbacks: Keras callbacks.

        Returns:
            The outcome, and descriptions of the later rounds.
        """
        plan = _Plan(self._labelled, self._prepared.recipe)
        self._begin(plan)
        folds = self._cross_fit(plan, checkpoint)
        outcome = self._fit(plan, folds, callbacks, checkpoint=checkpoint, state=state)
        self._folds = folds
        adapted = self_trained = None
        if self._prepared.adapted is not None:
            outcome, adapted = self._from_adapted(self._prepared.adapted, plan, outcome, callbacks)
        if len(self._unlabelled):
            outcome, self_trained = self._self_train(outcome, callbacks)
        return Trained(outcome, adapted, self_trained)

    def _begin(self, plan: _Plan) -> None:
        """Compiles the untrained model, and remembers its weights."""
        self._compile(plan)
        self._initial = Snapshot(self._model)
        self._find_start()

    def _compile(self, plan: _Plan) -> None:
        steps = steps_of(self._subset(plan.rows), plan.recipe)
        loss = self._task.loss(plan.recipe.label_smoothing)
        compile_for_training(self._model, loss, plan.recipe, steps=steps)

    def _find_start(self) -> None:
        """Computes the vectors from which the head starts, with the present weights of the adapter."""
        if self._prepared.starts_head:
            labelled = self._labelled
            self._start = HeadStart(
                self._model, self._task, self._subset(labelled), labelled.targets, self._processes
            )

    def _from_adapted(
        self,
        tensors: dict[str, np.ndarray],
        plan: _Plan,
        first: TrainingOutcome,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> tuple[TrainingOutcome, dict[str, Any]]:
        """Trains again, from the adapter that was adapted to the texts."""
        initial, start = self._initial, self._start
        trained = Snapshot(self._model)
        initial.restore()
        head = {k: v for k, v in self._model.adapter_tensors().items() if k.startswith("head/")}
        self._model.assign_adapter_tensors(tensors | head)
        self._initial = Snapshot(self._model)
        self._find_start()
        outcome, report = self._again("Training from the adapted start", plan, first, trained, callbacks)
        if not report["kept"]:
            self._initial, self._start = initial, start
        self._note("adapting to the texts first", report)
        return outcome, report

    def _self_train(
        self, first: TrainingOutcome, callbacks: Sequence[keras.callbacks.Callback]
    ) -> tuple[TrainingOutcome, dict[str, Any]]:
        """Trains again, on the surest answers as well."""
        self._progress.stage(f"Answering {len(self._unlabelled):,} texts without labels")
        task, offset = self._task.calibrated(first.outputs, self._truth), len(self._labelled.texts)
        run = Inference(self._model, self._rows.signature)
        pseudo = surest(
            task, self._processes.outputs(run, Subset(self._rows, self._unlabelled)), first=offset
        )
        rows = self._labelled.joined(pseudo)
        recipe = self._prepared.recipe
        if self._settings.epochs is None:
            step = recipe.batch_size * recipe.gradient_accumulation
            recipe = replace(recipe, epochs=default_epochs(len(self._subset(rows).lengths), step))
        of_folds = () if self._folds is None else self._folds.unlabelled
        plan = _Plan(rows, recipe, [surest(task, one, first=offset) for one in of_folds])
        trained = Snapshot(self._model)
        self._initial.restore()
        self._compile(plan)
        # The optimizer is a new one.
        self._initial = Snapshot(self._model)
        title = f"Training on {len(pseudo.texts):,} of these texts as well"
        outcome, report = self._again(title, plan, first, trained, callbacks)
        report = {**described(task, pseudo, unlabelled=len(self._unlabelled)), **report}
        self._note(f"training on {report['used_rows']:,} texts without labels", report)
        return outcome, report

    def _again(
        self,
        title: str,
        plan: _Plan,
        first: TrainingOutcome,
        trained: Snapshot,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> tuple[TrainingOutcome, dict[str, Any]]:
        """Trains a later round from the initial weights, and keeps it unless the score falls.

        Args:
            title: Name of the round, for the user.
            plan: What it trains on.
            first: The outcome so far.
            trained: The weights so far.
            callbacks: Keras callbacks.

        Returns:
            The outcome that is kept, and a description.
        """
        before = self._task.score(first.outputs, self._truth)
        report: dict[str, Any] = {"metric": next(iter(before.metrics)), "before": before.main}
        self._progress.stage(title)
        folds = self._cross_fit(plan)
        if folds is not None:
            last = folds.validation.outputs(self._model, plan.recipe.epochs)
            report["after"] = self._task.score(last, self._truth).main
        if folds is None or report["after"] >= report["before"]:
            second = self._fit(plan, folds, callbacks)
            report["after"] = self._task.score(second.outputs, self._truth).main
            if report["after"] >= report["before"]:
                self._folds = folds
                return second, {**report, "kept": True}
        trained.restore()
        return first, {**report, "kept": False}

    def _cross_fit(self, plan: _Plan, checkpoint: Checkpoint | None = None) -> CrossFit | None:
        """Trains on folds, if the rows are validated on folds."""
        if not self._prepared.folds:
            return None
        self._progress.stage(f"Validating on {len(self._prepared.folds)} folds")
        folds = cross_fit(
            self._prepared,
            self._rows,
            self._start,
            recipe=plan.recipe,
            steps=steps_of(self._subset(plan.rows), plan.recipe),
            pseudo=plan.pseudo,
            checkpoint=None if checkpoint is None else checkpoint.of_folds(len(self._prepared.folds)),
            progress=self._progress,
            stopwatch=self._stopwatch,
        )
        self._progress.stage("Training on all rows")
        return folds

    def _fit(
        self,
        plan: _Plan,
        folds: CrossFit | None,
        callbacks: Sequence[keras.callbacks.Callback],
        *,
        checkpoint: Checkpoint | None = None,
        state: TrainingState | None = None,
    ) -> TrainingOutcome:
        if self._start is not None:
            self._start.assign()
        return fit(
            self._model,
            self._task,
            training=(self._subset(plan.rows), plan.rows.targets),
            weights=plan.rows.weights,
            validation=self._validation(folds),
            recipe=plan.recipe,
            callbacks=callbacks,
            checkpoint=checkpoint,
            state=state,
            progress=self._progress,
            stopwatch=self._stopwatch,
            processes=self._processes,
        )

    def _validation(self, folds: CrossFit | None) -> Validation | None:
        """Returns what each epoch is scored on, if there are validation rows."""
        if folds is not None:
            return folds.validation
        return HeldOut(self._held_out[0], self._truth, self._processes) if self._held_out else None

    def _subset(self, rows: WeightedRows) -> EncodedRows:
        """Returns the encoded rows of some texts."""
        return self._rows if not len(self._unlabelled) else Subset(self._rows, rows.texts)

    def _note(self, what: str, report: dict[str, Any]) -> None:
        kept = "kept" if report["kept"] else "not kept"
        self._progress.note(
            f"{what[0].upper()}{what[1:]}: {metric_name(report['metric'])} {report['before']:.3f} before, "
            f"{report['after']:.3f} after; {kept}"
        )
