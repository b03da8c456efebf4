"""Runs the trainings of a comparison: which one is next, whether it fits the budget, and what happens to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.comparing.candidates import is_trained, work
from keras_peft.comparing.costs import Costs, Pace
from keras_peft.comparing.early import Early
from keras_peft.comparing.jobs import Cancel, Final, Job, Setup
from keras_peft.comparing.omissions import Omissions
from keras_peft.comparing.process import DIED, WorkerProcess
from keras_peft.comparing.results import Candidate, Result
from keras_peft.comparing.storing import LOG, Store
from keras_peft.comparing.units import duration
from keras_peft.durations import Clock
from keras_peft.errors import DataError, OptionError
from keras_peft.progress import CandidateState, ComparisonState, Progress
from keras_peft.training.fine_tune import DEFAULT_METHOD

# Seconds to wait for an event before the budget is looked at again.
_LOOKING = 0.5
# Seconds that a cancelled training has to end, before its process is killed.
_CANCELLING = 20
# Seconds to save and to verify the bundle.
_SAVING = 15
# How often a training begins again after its process died.
_ATTEMPTS = 2

Beaten = Callable[[Sequence[Result]], Collection[str]]
"""Returns the names of the candidates that are clearly beaten, so that they need no more seeds."""


@dataclass(frozen=True)
class Work:
    """What is to be trained.

    Attributes:
        candidates: The candidates.
        seeds: Number of seeds.
        folds: The folds of each seed, None alone if there are test rows.
        metric: Key of the main metric.
        setup: What all trainings share.
        task: Class of the task.
        final: How many times as long as a training the final one takes.
        worker_mb: Memory in MiB that the process that trains must not exceed.
        beaten: Says which candidates are clearly beaten.
    """

    candidates: Sequence[Candidate]
    seeds: int
    folds: Sequence[int | None]
    metric: str
    setup: Setup
    task: Any
    final: float
    worker_mb: int
    beaten: Beaten


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
        self,
        todo: Work,
        store: Store,
        clock: Clock,
        progress: Progress,
        start: Callable[[Setup, Path], WorkerProcess] = WorkerProcess,
    ) -> None:
        self._todo, self._store, self._clock, self._progress = todo, store, clock, progress
        self._start = start
        self._results = store.read()
        self._ended = store.ended()
        self.omissions = Omissions(self._ended)
        self._blocks: int | None = None
        self._costs = Costs(lambda name: work(name, todo.task, self._blocks))
        for result in self._results.values():
            self._costs.measured(result.candidate, result.train_seconds)
        self._early = Early(todo.metric, [one.name for one in todo.candidates if one.kind == "method"])
        self._worker: WorkerProcess | None = None
        self._starting = 0.0
        self._states: dict[str, str] = {}
        self._notes: set[str] = set()
        self._shortest = math.inf

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
                name = min(waiting, key=lambda one: (self._cost(one), one != DEFAULT_METHOD))
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
            for job in self._jobs(one.name, seed)
            if all(each in self._results for each in self._jobs(one.name, seed))
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
            f"{final.out} could not be trained: its process ended {_ATTEMPTS} times; see {self._store.folder / LOG}."
        )

    def _finished(self, final: Final) -> dict[str, Any]:
        """Sends the training of the bundle to the process and follows it to its end."""
        worker = self._ready()
        worker.send(final)
        began = self._clock.passed()
        pace = Pace(began)
        while True:
            event = worker.event(_LOOKING) or {"event": ""}
            if event["event"] in ("done", "failed", DIED):
                return event
            self._paced(pace, event)
            self._show(f"{final.method} on all rows", pace.share, began, finishing=final.method)

    def close(self) -> None:
        """Ends the process that trains."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _jobs(self, name: str, seed: int) -> list[Job]:
        return [Job(name, seed, fold) for fold in self._todo.folds]

    def _cost(self, name: str) -> float:
        predicted = self._costs.predict(name)
        return work(name, self._todo.task, self._blocks) if predicted is None else predicted

    def _is_wanted(self, name: str, seed: int) -> bool:
        """Returns whether a candidate is trained with a seed, apart from the budget."""
        if all(job in self._results for job in self._jobs(name, seed)):
            self._states.setdefault(name, "")
            return False
        if name in self._ended:
            return False
        if seed and not all(job in self._results for job in self._jobs(name, 0)):
            return False  # Seed 0 did not fit.
        if seed and (self.omissions.is_beaten(name) or name in self._todo.beaten(self.complete())):
            self.omissions.beaten(name, seed)
            self._states[name] = "beaten"
            return False
        return True

    def _train_seed(self, name: str, seed: int) -> None:
        """Trains a candidate with a seed, on all folds, if that fits the budget."""
        jobs = [job for job in self._jobs(name, seed) if job not in self._results]
        for number, job in enumerate(jobs):
            rest = len(jobs) - number
            if not self._fits(name, rest) or not self._train(job, rest):
                if name not in self._ended:
                    self.omissions.budget(name, seed, self._costs.predict(name))
                    self._states[name] = "left out" if not seed else ""
                return
        self._states[name] = "done"

    def _fits(self, name: str, jobs: int) -> bool:
        """Returns whether some trainings of a candidate fit the budget, with the bundle at the end."""
        predicted = self._costs.predict(name)
        if predicted is None:
            return self._clock.left() > 0
        starting = self._starting if self._worker is None or self._worker.fresh else 0.0
        return starting + predicted * jobs + self._reserve(name) <= self._clock.left()

    def _reserve(self, name: str, seconds: float | None = None) -> float:
        """Returns the seconds that the bundle takes, whichever candidate wins.

        Args:
            name: Name of a candidate that may win, in addition to those with results.
            seconds: Duration of its training, if it is not to be predicted.
        """
        names = {job.candidate for job in self._results} | {name}
        times = [self._bundle(one, seconds if one == name else None) for one in names if is_trained(one)]
        return max(times, default=0.0)

    def _bundle(self, name: str, seconds: float | None = None) -> float:
        """Predicts the seconds of the bundle of a method; see `_reserve`."""
        whole = seconds or self._costs.predict(name) or 0.0
        trained = [one.train_seconds for job, one in self._results.items() if job.candidate == name]
        # Only the steps take longer with more rows or folds; nothing is known of them before the first result.
        steps = min(whole, max(trained)) if trained else whole
        return whole + steps * (self._todo.final - 1) + _SAVING

    def _train(self, job: Job, rest: int) -> bool:
        """Trains once; again if the process dies.

        Args:
            job: The training.
            rest: Number of trainings of the candidate and seed that are left, including this one.

        Returns:
            Whether there is a result.
        """
        for _ in range(_ATTEMPTS):
            self._states[job.candidate] = "training"
            event = self._followed(job, rest)
            kind = event["event"]
            if kind == "done":
                return self._done(job, event)
            if kind == "failed":
                why = f"{job.candidate} has no result: {event['why'].removesuffix('.')}."
                self._end(job, why, "failed", lasting=event["lasting"])
                self._replace_if_large(event)
                return False
            if kind == "cancelled":
                if sentence := self._early.sentence(job):
                    self._end(job, sentence, "stopped", lasting=True)
                self._replace_if_large(event)
                return False
            self.close()  # It died.
        where = self._store.folder / LOG
        self._end(
            job, f"{job.candidate} has no result: its process ended {_ATTEMPTS} times; see {where}.", "failed"
        )
        return False

    def _followed(self, job: Job, rest: int) -> dict[str, Any]:
        """Sends a training to the process and follows it to its end.

        Returns:
            The last event: done, failed, cancelled or died.
        """
        if self._results and self._clock.left() <= 0:
            return {"event": "cancelled"}
        worker = self._ready()
        worker.send(job)
        began, cancelled = self._clock.passed(), math.inf
        pace = Pace(began)
        while True:
            event = worker.event(_LOOKING) or {"event": ""}
            if event["event"] in ("done", "failed", "cancelled", DIED):
                return event
            self._paced(pace, event)
            self._heard(job, event)
            self._show(_described(job), pace.share, began)
            now = self._clock.passed()
            if cancelled == math.inf and (
                self._early.is_beaten(job) or self._is_over(job, pace, now - began, rest)
            ):
                worker.send(Cancel(job.name))
                cancelled = now
            if now - cancelled > _CANCELLING:
                self.close()
                return {"event": "cancelled"}

    def _paced(self, pace: Pace, event: Mapping[str, Any]) -> None:
        """Remembers how far a training is."""
        if event["event"] == "step":
            pace.step(event["done"] / max(event["total"], 1), at=self._clock.passed())

    def _heard(self, job: Job, event: Mapping[str, Any]) -> None:
        """Remembers what an event says."""
        if event["event"] == "planned":
            self._blocks = event["blocks"] or self._blocks
        elif event["event"] == "note" and event["text"] not in self._notes:
            self._notes.add(event["text"])
            self._progress.note(event["text"])
        elif event["event"] == "epoch":
            self._early.epoch(job, event)

    def _is_over(self, job: Job, pace: Pace, passed: float, rest: int) -> bool:
        """Returns whether a training, and what must follow it, will exceed the budget."""
        whole = pace.whole()
        if whole is None:
            # Nothing is known yet of the first training.
            return (self._reserve(job.candidate) if self._results else 0.0) > self._clock.left()
        self._shortest = min(self._shortest, whole)
        return whole * rest - passed + self._reserve(job.candidate, whole) > self._clock.left()

    def _done(self, job: Job, event: Mapping[str, Any]) -> bool:
        """Reads the result of a training and remembers its duration."""
        found = self._store.read_one(job)
        if found is None:
            self._end(job, f"{job.candidate} has no result: its file cannot be read.", "failed")
            return False
        self._results[job] = found
        seconds = event["seconds"]
        self._starting = max(self._starting, seconds.get("import", 0.0))
        self._costs.measured(job.candidate, seconds["total"] - seconds.get("import", 0.0))
        self._early.finished(job)
        self._replace_if_large(event)
        self._show("", 0.0, self._clock.passed(), finished=job.candidate)
        return True

    def _replace_if_large(self, event: Mapping[str, Any]) -> None:
        """Ends the process if the next training might take its memory past the limit."""
        if self._worker is not None:
            self._worker.remember(event.get("rss_mb"))
            if self._worker.rss_mb + self._worker.growth_mb > self._todo.worker_mb:
                self._worker.close()
                self._worker = None

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
        self._states[job.candidate] = state

    def _ready(self) -> WorkerProcess:
        """Returns the process that trains, after starting it if there is none."""
        if self._worker is None:
            self._worker = worker = self._start(self._todo.setup, self._store.folder / LOG)
            while (event := worker.event(_LOOKING)) is None or event["event"] == "note":
                if self._clock.left() <= 0 and not self._results:
                    self.close()
                    raise OptionError(self._nothing())
            if event["event"] == "failed":
                raise DataError(event["why"])
            if event["event"] == DIED:
                raise OptionError(
                    f"The process that trains ended at its start; see {self._store.folder / LOG}."
                )
        return self._worker

    def _nothing(self) -> str:
        """Says why there is no result at all."""
        if self._ended:
            return f"No candidate could be trained. {' '.join(self._ended.values())}"
        need = ""
        if self._shortest < math.inf:
            bundle = duration(self._shortest * self._todo.final + _SAVING)
            need = (
                f", which takes about {duration(self._shortest)}, and the bundle at the end another {bundle}"
            )
        given = math.ceil(self._clock.budget or 0)
        return f"`budget={given}`: not even the first candidate fits{need}; give more, or set fewer `epochs`."

    def _show(
        self,
        now: str,
        share: float,
        began: float,
        *,
        finished: str | None = None,
        finishing: str | None = None,
    ) -> None:
        """Reports how the comparison stands."""
        left = self._left(self._clock.passed() - began, share, now, finishing)
        lines = [
            self._line(one) for one in sorted(self._todo.candidates, key=lambda one: self._cost(one.name))
        ]
        self._progress.compared(ComparisonState(self._todo.metric, lines, now, share, left, finished))

    def _line(self, one: Candidate) -> CandidateState:
        jobs = [job for seed in range(self._todo.seeds) for job in self._jobs(one.name, seed)]
        own = [self._results[job] for job in jobs if job in self._results]
        score = sum(result.metrics[self._todo.metric] for result in own) / len(own) if own else None
        return CandidateState(
            name=one.name,
            title=one.title,
            done=len(own),
            planned=len(jobs),
            score=score,
            seconds=sum(result.train_seconds for result in own) / len(own) if own else None,
            state=self._states.get(one.name, "left out" if one.name in self._ended else ""),
        )

    def _left(self, passed: float, share: float, now: str, finishing: str | None) -> float | None:
        """Predicts the seconds that are left."""
        if finishing is not None:
            return max(0.0, self._bundle(finishing) - passed)
        seconds = 0.0
        for one in self._todo.candidates:
            own = self._costs.predict(one.name)
            if own is None:
                return None if self._clock.budget is None else max(0.0, self._clock.left())
            if one.name not in self._ended and self._states.get(one.name) not in ("beaten", "left out"):
                jobs = [job for seed in range(self._todo.seeds) for job in self._jobs(one.name, seed)]
                seconds += own * sum(job not in self._results for job in jobs)
        seconds += self._final()
        return max(0.0, min(seconds - passed, self._clock.left()))

    def _final(self) -> float:
        """Predicts the seconds of the bundle, if the candidate that is best now stays the best."""
        scores = {
            job.candidate: one.metrics[self._todo.metric]
            for job, one in self._results.items()
            if is_trained(job.candidate)
        }
        return self._bundle(max(scores, key=lambda name: scores[name])) if scores else 0.0


def _described(job: Job) -> str:
    fold = "" if job.fold is None else f", fold {job.fold}"
    return f"{job.candidate}, seed {job.seed}{fold}"
