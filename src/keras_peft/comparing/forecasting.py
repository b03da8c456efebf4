"""Forecasts how long the rest of a comparison takes, and says whether it fits the budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from keras_peft.comparing.candidates import is_trained, work
from keras_peft.comparing.costs import Costs, Pace
from keras_peft.comparing.units import duration

if TYPE_CHECKING:
    from keras_peft.comparing.jobs import Job
    from keras_peft.comparing.results import Result
    from keras_peft.comparing.work import Work
    from keras_peft.durations import Clock

# Seconds to save and to verify the bundle.
_SAVING = 15


class Forecast:
    """Forecasts the durations of trainings and of the bundle, from those that were measured.

    Args:
        todo: What is to be trained.
        results: The results, to which others are added.
        clock: The budget.
    """

    def __init__(self, todo: Work, results: Mapping[Job, Result], clock: Clock) -> None:
        self._todo, self._results, self._clock = todo, results, clock
        self._blocks: int | None = None
        self._costs = Costs(self._work)
        for result in results.values():
            self._costs.measured(result.candidate, result.train_seconds)
        self._starting = 0.0
        self._shortest = math.inf

    def planned(self, blocks: int | None) -> None:
        """Remembers the number of the base's blocks, if it is known."""
        self._blocks = blocks or self._blocks

    def measured(self, name: str, seconds: Mapping[str, float]) -> None:
        """Remembers the duration of a training.

        Args:
            name: Name of the candidate.
            seconds: The seconds of its stages: all of them as `total`, and `import` in a new process.
        """
        starting = seconds.get("import", 0.0)
        self._starting = max(self._starting, starting)
        self._costs.measured(name, seconds["total"] - starting)

    def training(self, name: str) -> float | None:
        """Forecasts the seconds of a training of a candidate; None before anything was measured."""
        return self._costs.predict(name)

    def cost(self, name: str) -> float:
        """Returns by what the candidates are ordered: the seconds of a training, or its work if nothing is known."""
        predicted = self.training(name)
        return self._work(name) if predicted is None else predicted

    def fits(self, name: str, jobs: int, *, warm: bool) -> bool:
        """Returns whether some trainings of a candidate fit the budget, with the bundle at the end.

        Args:
            name: Name of the candidate.
            jobs: Number of its trainings.
            warm: Whether there is a process that has trained before.
        """
        predicted = self.training(name)
        if predicted is None:
            return self._clock.left() > 0
        starting = 0.0 if warm else self._starting
        return starting + predicted * jobs + self._reserve(name) <= self._clock.left()

    def exceeds(self, name: str, pace: Pace, passed: float, jobs: int) -> bool:
        """Returns whether a training that is going on, and what must follow it, will exceed the budget.

        Args:
            name: Name of the candidate.
            pace: How far the training is.
            passed: Seconds since it began.
            jobs: Number of trainings of the candidate that are left, including this one.
        """
        whole = pace.whole()
        if whole is None:
            # Nothing is known yet of the first training.
            return (self._reserve(name) if self._results else 0.0) > self._clock.left()
        self._shortest = min(self._shortest, whole)
        return whole * jobs - passed + self._reserve(name, whole) > self._clock.left()

    def bundle(self, name: str, seconds: float | None = None) -> float:
        """Forecasts the seconds of the bundle of a method.

        Args:
            name: Name of the method.
            seconds: Duration of its training, if it is known.
        """
        whole = seconds or self.training(name) or 0.0
        trained = [one.train_seconds for job, one in self._results.items() if job.candidate == name]
        # Only the steps take longer with more rows or folds; nothing is known of them before the first result.
        steps = min(whole, max(trained)) if trained else whole
        return whole + steps * (self._todo.final - 1) + _SAVING

    def left(self, names: Iterable[str], passed: float) -> float | None:
        """Forecasts the seconds that are left; None if nothing is known.

        Args:
            names: The candidates that are not given up.
            passed: Seconds since the training that is going on began.
        """
        if any(self.training(one.name) is None for one in self._todo.candidates):
            return None if self._clock.budget is None else max(0.0, self._clock.left())
        seconds = self._best_bundle()
        for name in names:
            missing = sum(job not in self._results for job in self._todo.all_jobs(name))
            seconds += (self.training(name) or 0.0) * missing
        return max(0.0, min(seconds - passed, self._clock.left()))

    def too_short(self) -> str:
        """Says that the budget holds no training, and how long one takes if that is known."""
        need = ""
        if self._shortest < math.inf:
            folds = len(self._todo.folds)
            each = f" for its {folds} folds" if folds > 1 else ""
            bundle = duration(self._shortest * self._todo.final + _SAVING)
            need = (
                f", which takes about {duration(self._shortest * folds)}{each}, and the bundle at the end another "
                f"{bundle}"
            )
        given = math.ceil(self._clock.budget or 0)
        return f"`budget={given}`: not even the first candidate fits{need}; give more, or set fewer `epochs`."

    def _work(self, name: str) -> float:
        return work(name, self._todo.task, self._blocks)

    def _reserve(self, name: str, seconds: float | None = None) -> float:
        """Returns the seconds that the bundle takes, whichever candidate wins.

        Args:
            name: Name of a candidate that may win, in addition to those with results.
            seconds: Duration of its training, if it is known.
        """
        names = {job.candidate for job in self._results} | {name}
        times = [self.bundle(one, seconds if one == name else None) for one in names if is_trained(one)]
        return max(times, default=0.0)

    def _best_bundle(self) -> float:
        """Forecasts the seconds of the bundle, if the candidate that is best now stays the best."""
        scores = {
            job.candidate: one.metrics[self._todo.metric]
            for job, one in self._results.items()
            if is_trained(job.candidate)
        }
        return self.bundle(max(scores, key=lambda name: scores[name])) if scores else 0.0
