"""Hooks that report the progress of long operations. The base class reports nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_peft.core.plan import Plan


@dataclass(frozen=True)
class CandidateState:
    """How a candidate stands.

    Attributes:
        name: Name of the candidate.
        title: Its name for display.
        done: Number of its trainings that are done.
        planned: Number of all its trainings.
        score: Mean of the main metric so far, None before the first training is done.
        seconds: Mean duration of a training in seconds, None before the first is done.
        state: What is happening to it, such as "training" or "left out"; "" if it waits.
    """

    name: str
    title: str
    done: int
    planned: int
    score: float | None
    seconds: float | None
    state: str


@dataclass(frozen=True)
class ComparisonState:
    """How a comparison stands.

    Attributes:
        metric: Key of the main metric.
        candidates: The candidates, in the order in which they are trained.
        now: What is happening, such as "lora, seed 0".
        share: Share of the present training that is done.
        left: Seconds that are left, None if they cannot be predicted yet.
        finished: Name of the candidate of which a training has just been finished, None otherwise.
    """

    metric: str
    candidates: Sequence[CandidateState]
    now: str
    share: float
    left: float | None
    finished: str | None = None


class Progress:
    """Receives the events of a run. The methods do nothing; override the ones you need."""

    def stage(self, text: str) -> None:
        """Called when a stage begins, such as "Loading the base model minilm"."""

    def read(self, source: str, reading: str) -> None:
        """Called when data is read: the columns, the task and why, and what was left out, in one line."""

    def importing(self) -> AbstractContextManager[Any]:
        """Returns a context in which Keras and its backend are imported."""
        return nullcontext()

    def note(self, text: str) -> None:
        """Called with information for the user, such as rows that were skipped."""

    def planned(self, plan: Plan, settings: dict[str, Any]) -> None:
        """Called before the first step with the plan and the settings."""

    def trunk_started(self, *, rows: int) -> None:
        """Called when the frozen part starts to be computed, with the number of distinct texts."""

    def trunk_computed(self, *, rows: int) -> None:
        """Called when that many more texts are computed."""

    def trunk_finished(self) -> None:
        """Called when the frozen part is computed or has failed."""

    def started(self, *, epochs: int, steps: int, done: int) -> None:
        """Called when training begins; `steps` is per epoch, `done` counts epochs already trained."""

    def stepped(self, *, loss: float) -> None:
        """Called after each step; `loss` is the mean of the epoch so far."""

    def epoch_ended(self, *, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        """Called after an epoch is validated; `epoch` counts from 1, the first metric is the main one."""

    def fold_epoch_ended(self, *, fold: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Called after an epoch of a fold is scored; `fold` counts from 0, the first metric is the main one."""

    def searching(self, *, trials: int, done: int) -> None:
        """Called before the first trial of a sweep; `done` of the trials exist from an earlier run."""

    def trials_advanced(self, *, done: float) -> None:
        """Called while trials of a sweep train, with the number that ended and the shares of those that train."""

    def trial_ended(self, *, done: int, text: str, best: str) -> None:
        """Called after each trial of a sweep: how many ended, what this one reached, and the best score so far."""

    def predicting(self, *, rows: int, done: int) -> None:
        """Called before the rows of files are predicted; `done` of them are, by an earlier run."""

    def predicted(self, *, rows: int) -> None:
        """Called when that many more rows are predicted."""

    def generating(self, *, rows: int, kept: int) -> None:
        """Called with the number of rows requested; `kept` of them exist from an earlier run."""

    def generated(self, *, rows: int) -> None:
        """Called after each answer with the number of rows accepted from it."""

    def waiting(self, *, seconds: float, reason: str) -> None:
        """Called when requests pause, with the endpoint's reason."""

    def compared(self, state: ComparisonState) -> None:
        """Called several times a second during a comparison, with the scores so far and the time left."""

    def finished(self) -> None:
        """Called when training, a search or generation ends, successfully or not."""
