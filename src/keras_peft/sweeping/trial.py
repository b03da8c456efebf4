"""One trial: a training that reports its scores, can be stopped early, and goes on where it was interrupted."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.sweeping.job import Job, Outcome
from keras_peft.sweeping.space import Choice
from keras_peft.training.checkpoint import Checkpoint, TrainingState
from keras_peft.training.describe import run_of
from keras_peft.training.once import train_once
from keras_peft.training.prepare import read
from keras_peft.training.settings import Settings

if TYPE_CHECKING:
    from keras_peft.core.plan import Plan
    from keras_peft.data.examples import Examples
    from keras_peft.training.prepared import PreparedTraining

RUNGS = 10
"""Trials are compared after each tenth of their training, since they may differ in their number of epochs."""

Report = Callable[[int, float], bool]
"""Takes a rung, from 1 to `RUNGS`, and the score there; returns whether to go on."""


class Stopped(Exception):
    """Raised to end the training of a trial that is not promising."""


class InProcess:
    """Runs trials in this process.

    Args:
        job: What all trials share.
        progress: Its context for the import of Keras is used.
    """

    place = "here"

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job, self._progress = job, progress
        self._rows: tuple[Examples, Examples] | None = None

    def ready(self) -> bool:
        """Returns that it can run a trial."""
        return True

    def rows(self) -> tuple[Examples, Examples]:
        """Returns the training rows and the validation rows, which are read once."""
        if self._rows is None:
            self._rows = read(self._job.data, Settings.of(dict(self._job.settings)), Progress())
        return self._rows

    def train(self, choice: Choice, report: Report) -> Outcome:
        """Trains with some settings.

        Args:
            choice: The settings.
            report: Called with the score after each tenth of the training.

        Returns:
            What was reached.

        Raises:
            Stopped: If `report` says so.
            KerasPeftError: If the settings cannot be used, or the training diverges.
        """
        gc.collect()  # Memory should not hold the base of the trial before as well.
        began = time.perf_counter()
        settings = self._job.settings_of(choice)
        training, held_out = self.rows()
        rungs = _Rungs(report, self._progress)
        done = train_once(
            training,
            [self._job.method_of(choice)],
            settings,
            validation=held_out,
            progress=rungs,
            stopwatch=Stopwatch(),
            keep=lambda prepared: self._kept(choice, prepared, settings, rungs),
        )
        prepared = done.prepared
        scores = prepared.task.score(done.outcome.outputs, prepared.task.targets(held_out.labels))
        return Outcome(
            metrics=scores.metrics,
            loss=scores.loss,
            epochs=len(done.outcome.history),
            parameters=prepared.model.plan.trainable_parameters,
            seconds=time.perf_counter() - began,
            weights=_digest(prepared.model.adapter_tensors()),
        )

    def close(self) -> None:
        """Does nothing; other runners end their process."""

    def _kept(
        self, choice: Choice, prepared: PreparedTraining, settings: Settings, rungs: _Rungs
    ) -> tuple[Checkpoint, TrainingState | None]:
        """Returns the checkpoint of a trial and its state, after reporting the epochs that are already trained."""
        checkpoint = Checkpoint(self._job.checkpoint_of(choice), run_of(prepared, settings))
        try:
            state = checkpoint.read()
            checkpoint.of_folds(len(prepared.folds)).read()
        except OptionError:  # Of another version of a library, or damaged: the trial starts over.
            checkpoint.remove()
            return checkpoint, None
        for record in () if state is None else state.content["history"]:
            if not prepared.folds:
                rungs.epoch_ended(epoch=record["epoch"], loss=record["loss"], metrics=record["metrics"])
        return checkpoint, state


class _Rungs(Progress):
    """Reports the scores of a training at each rung.

    Folds are trained one after another. The score there is the mean of those so far, and the training on all rows
    that follows them reports nothing new.

    Args:
        report: The report.
        outer: Its context for the import of Keras is used.
    """

    def __init__(self, report: Report, outer: Progress) -> None:
        self._report, self._outer = report, outer
        self._rung, self._epochs, self._folds = 0, 1, 0
        self._scores: dict[int, float] = {}

    def importing(self) -> AbstractContextManager[Any]:
        return self._outer.importing()

    def planned(self, plan: Plan, settings: dict[str, Any]) -> None:
        self._epochs, self._folds = settings["epochs"], settings["folds"] or 0

    def epoch_ended(self, *, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        if not self._folds:
            self._reach(epoch / self._epochs, next(iter(metrics.values())))

    def fold_epoch_ended(self, *, fold: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self._scores[fold] = next(iter(metrics.values()))
        share = (fold + epoch / self._epochs) / self._folds
        self._reach(share, sum(self._scores.values()) / len(self._scores))

    def _reach(self, share: float, score: float) -> None:
        rung = int(share * RUNGS + 1e-9)
        if rung <= self._rung:  # Between two rungs, or in a later round of the training.
            return
        self._rung = rung
        if not self._report(rung, score):
            raise Stopped


def _digest(tensors: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
