"""Runs the trainings of a comparison: which one is next, whether it fits the budget, and what happens to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from keras_peft.comparing.costs import Pace
from keras_peft.comparing.early import Early
from keras_peft.comparing.forecasting import Forecast
from keras_peft.comparing.jobs import Cancel, Final, Job
from keras_peft.comparing.omissions import Omissions
from keras_peft.comparing.process import DIED, WorkerProcess
from keras_peft.comparing.process_in_use import LOOKING, ProcessInUse, Start
from keras_peft.comparing.reporting import BEATEN, LEFT_OUT, Reporter
from keras_peft.comparing.results import Result
from keras_peft.comparing.storing import LOG, Store
from keras_peft.comparing.work import Work
from keras_peft.durations import Clock
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.training.fine_tune import DEFAULT_METHOD

# Seconds that a cancelled training has to end, before its process is killed.
_CANCELLING = 20
# How often a training begins again after its process died.
_ATTEMPTS = 2


class Runner:
    """Trains the candidates of a comparison within a budget.

    Args:
        todo: What is to be trained.
        store: The results, which may have some already.
        clock: The budget.
        progress: Receives progress events.
        start: Starts the process that trains.

    Attributes:
        omissions: What was left out.
    """

    def __init__(
        self, todo: Work, store: Store, clock: Clock, progress: Progress, start: Start = WorkerProcess
    ) -> None:
        self._todo, self._store, self._clock = todo, store, clock
        self._log = store.folder / LOG
        self._results = store.read()
        self._ended = store.ended()
        self.omissions = Omissions(self._ended)
        self._forecast = Forecast(todo, self._results, clock)
        self._early = Early(todo.metric, [one.name for one in todo.candidates if one.kind == "method"])
        self._report = Reporter(todo, self._results, self._ended, self._forecast, clock, progress)
        self._process = ProcessInUse(start, todo.setup, self._log, todo.worker_mb)

    def run(self) -> list[Result]:
        """Trains what fits the budget.

        Returns:
            The results of the candidates and seeds that are complete.

        Raises:
            OptionError: If there is not one.
        """
        for seed in range(self._todo.seeds):
            waiting = [one.name for one in self._todo.candidates]
            while waiting:
                # Of several that cost the same, the method that `fine_tune` uses comes first.
                name = min(waiting, key=lambda one: (self._forecast.cost(one), one != DEFAULT_METHOD))
                waiting.remove(name)
                if self._is_wanted(name, seed):
                    self._train_seed(name, seed)
        found = self.complete()
        if not found:
            raise OptionError(self._nothing())
        return found

    def complete(self) -> list[Result]:
        """Returns the results of the candidates and seeds of which all folds are there."""
        return [
            self._results[job]
            for seed in range(self._todo.seeds)
            for one in self._todo.candidates
            if self._is_complete(one.name, seed)
            for job in self._todo.jobs(one.name, seed)
        ]

    def finish(self, final: Final) -> None:
        """Trains the bundle.

        Args:
            final: The training.

        Raises:
            OptionError: If it fails.
        """
        for _ in range(_ATTEMPTS):
            event = self._finished(final)
            if event["event"] == "done":
                return
            if event["event"] == "failed":
                raise OptionError(f"{final.out} could not be trained: {event['why']}")
            self.close()  # It died.
        raise OptionError(
            f"{final.out} could not be trained: its process ended {_ATTEMPTS} times; see {self._log}."
        )

    def _finished(self, final: Final) -> dict[str, Any]:
        """Sends the training of the bundle to the process and follows it to its end."""
        process = self._process.ready(self._check_time)
        process.send(final)
        began = self._clock.passed()
        pace = Pace(began)
        while True:
            event = process.event(LOOKING) or {"event": ""}
            if event["event"] in ("done", "failed", DIED):
                return event
            self._paced(pace, event)
            self._report.finishing(final.method, pace.share, began)

    def close(self) -> None:
        """Ends the process that trains."""
        self._process.close()

    def _is_complete(self, name: str, seed: int) -> bool:
        return all(job in self._results for job in self._todo.jobs(name, seed))

    def _is_wanted(self, name: str, seed: int) -> bool:
        """Returns whether a candidate is trained with a seed, apart from the budget."""
        if self._is_complete(name, seed):
            self._report.states.setdefault(name, "")
            return False
        if name in self._ended:
            return False
        if seed and not self._is_complete(name, 0):
            return False  # Seed 0 did not fit.
        if seed and (self.omissions.is_beaten(name) or name in self._todo.beaten(self.complete())):
            self.omissions.beaten(name, seed)
            self._report.states[name] = BEATEN
            return False
        return True

    def _train_seed(self, name: str, seed: int) -> None:
        """Trains a candidate with a seed, on all folds, if that fits the budget."""
        jobs = [job for job in self._todo.jobs(name, seed) if job not in self._results]
        for number, job in enumerate(jobs):
            rest = len(jobs) - number
            fits = self._forecast.fits(name, rest, warm=self._process.is_warm)
            if not fits or not self._train(job, rest):
                if name not in self._ended:
                    self.omissions.budget(name, seed, self._forecast.training(name))
                    self._report.states[name] = "" if seed else LEFT_OUT
                return
        self._report.states[name] = "done"

    def _train(self, job: Job, rest: int) -> bool:
        """Trains once; again if the process dies.

        Args:
            job: The training.
            rest: Number of trainings of the candidate and seed that are left, including this one.

        Returns:
            Whether there is a result.
        """
        for _ in range(_ATTEMPTS):
            self._report.states[job.candidate] = "training"
            event = self._followed(job, rest)
            kind = event["event"]
            if kind == "done":
                return self._done(job, event)
            if kind == "failed":
                why = f"{job.candidate} has no result: {event['why'].removesuffix('.')}."
                self._end(job, why, "failed", lasting=event["lasting"])
                self._process.replace_if_large(event)
                return False
            if kind == "cancelled":
                if sentence := self._early.sentence(job):
                    self._end(job, sentence, "stopped", lasting=True)
                self._process.replace_if_large(event)
                return False
            self.close()  # It died.
        why = f"{job.candidate} has no result: its process ended {_ATTEMPTS} times; see {self._log}."
        self._end(job, why, "failed")
        return False

    def _followed(self, job: Job, rest: int) -> dict[str, Any]:
        """Sends a training to the process and follows it to its end.

        Returns:
            The last event: done, failed, cancelled or died.
        """
        if self._results and self._clock.left() <= 0:
            return {"event": "cancelled"}
        process = self._process.ready(self._check_time)
        process.send(job)
        began, cancelled = self._clock.passed(), math.inf
        pace = Pace(began)
        while True:
            event = process.event(LOOKING) or {"event": ""}
            if event["event"] in ("done", "failed", "cancelled", DIED):
                return event
            self._paced(pace, event)
            self._heard(job, event)
            self._report.training(job, pace.share, began)
            now = self._clock.passed()
            if cancelled == math.inf and (
                self._early.is_beaten(job) or self._forecast.exceeds(job.candidate, pace, now - began, rest)
            ):
                process.send(Cancel(job.name))
                cancelled = now
            # Nothing can follow if the time is over before the first result.
            patience = _CANCELLING if self._results or self._clock.left() > 0 else 0
            if now - cancelled > patience:
                self.close()
                return {"event": "cancelled"}

    def _paced(self, pace: Pace, event: Mapping[str, Any]) -> None:
        """Remembers how far a training is."""
        if event["event"] == "step":
            pace.step(event["done"] / max(event["total"], 1), at=self._clock.passed())

    def _heard(self, job: Job, event: Mapping[str, Any]) -> None:
        """Remembers what an event says."""
        if event["event"] == "planned":
            self._forecast.planned(event["blocks"])
        elif event["event"] == "note":
            self._report.note(event["text"])
        elif event["event"] == "epoch":
            self._early.epoch(job, event)

    def _done(self, job: Job, event: Mapping[str, Any]) -> bool:
        """Reads the result of a training and remembers its duration."""
        found = self._store.read_one(job)
        if found is None:
            self._end(job, f"{job.candidate} has no result: its file cannot be read.", "failed")
            return False
        self._results[job] = found
        self._forecast.measured(job.candidate, event["seconds"])
        self._early.finished(job)
        self._process.replace_if_large(event)
        self._report.trained(job.candidate)
        return True

    def _end(self, job: Job, sentence: str, state: str, *, lasting: bool = False) -> None:
        """Remembers that a candidate is not trained again.

        Args:
            job: The training.
            sentence: The reason.
            state: How the candidate stands.
            lasting: Whether the reason holds when the comparison is resumed.
        """
        if lasting:
            self._store.end(job, sentence)
        self._ended[job.candidate] = sentence
        self._report.states[job.candidate] = state

    def _check_time(self) -> None:
        """Ends a comparison whose time is over before the first result."""
        if self._clock.left() <= 0 and not self._results:
            raise OptionError(self._nothing())

    def _nothing(self) -> str:
        """Says why there is no result at all."""
        if self._ended:
            return f"No candidate could be trained. {' '.join(self._ended.values())}"
        return self._forecast.too_short()
