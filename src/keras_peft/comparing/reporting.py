"""Reports how a comparison stands while it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_peft.progress import CandidateState, ComparisonState, Progress

if TYPE_CHECKING:
    from keras_peft.comparing.forecasting import Forecast
    from keras_peft.comparing.jobs import Job
    from keras_peft.comparing.results import Candidate, Result
    from keras_peft.comparing.work import Work
    from keras_peft.durations import Clock

_NUMBER = re.compile(r"\d+")
BEATEN, LEFT_OUT = "beaten", "left out"


class Reporter:
    """Reports how a comparison stands.

    Args:
        todo: What is to be trained.
        results: The results, to which others are added.
        ended: Why candidates are not trained any more, by their names; others are added.
        forecast: What is left.
        clock: The budget.
        progress: Receives progress events.

    Attributes:
        states: How candidates stand, by their names, such as "training".
    """

    def __init__(
        self,
        todo: Work,
        results: Mapping[Job, Result],
        ended: Mapping[str, str],
        forecast: Forecast,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._todo, self._results, self._ended = todo, results, ended
        self._forecast, self._clock, self._progress = forecast, clock, progress
        self.states: dict[str, str] = {}
        self._notes: set[str] = set()

    def note(self, text: str) -> None:
        """Reports a note of a training, once for all trainings that have it, with whatever numbers."""
        kind = _NUMBER.sub("", text)
        if kind not in self._notes:
            self._notes.add(kind)
            self._progress.note(text)

    def training(self, job: Job, share: float, began: float) -> None:
        """Reports a training that is going on.

        Args:
            job: The training.
            share: Share of its steps that are done.
            began: When it began, in seconds of the clock.
        """
        fold = "" if job.fold is None else f", fold {job.fold}"
        self._tell(f"{job.candidate}, seed {job.seed}{fold}", share, self._left(began))

    def trained(self, name: str) -> None:
        """Reports the end of a training of a candidate."""
        self._tell("", 0.0, self._left(self._clock.passed()), finished=name)

    def finishing(self, name: str, share: float, began: float) -> None:
        """Reports the training of the bundle; see `training`."""
        left = max(0.0, self._forecast.bundle(name) - (self._clock.passed() - began))
        self._tell(f"{name} on all rows", share, left)

    def _left(self, began: float) -> float | None:
        names = [
            one.name
            for one in self._todo.candidates
            if one.name not in self._ended and self.states.get(one.name) not in (BEATEN, LEFT_OUT)
        ]
        return self._forecast.left(names, self._clock.passed() - began)

    def _tell(self, now: str, share: float, left: float | None, *, finished: str | None = None) -> None:
        ordered = sorted(self._todo.candidates, key=lambda one: self._forecast.cost(one.name))
        lines = [self._line(one) for one in ordered]
        self._progress.compared(ComparisonState(self._todo.metric, lines, now, share, left, finished))

    def _line(self, one: Candidate) -> CandidateState:
        jobs = self._todo.all_jobs(one.name)
        own = [self._results[job] for job in jobs if job in self._results]
        score = sum(result.metrics[self._todo.metric] for result in own) / len(own) if own else None
        return CandidateState(
            name=one.name,
            title=one.title,
            done=len(own),
            planned=len(jobs),
            score=score,
            seconds=sum(result.train_seconds for result in own) / len(own) if own else None,
            state=self.states.get(one.name, LEFT_OUT if one.name in self._ended else ""),
        )
