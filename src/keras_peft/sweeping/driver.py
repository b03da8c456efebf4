"""Hands out trials until there are enough, or the time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from keras_peft.child_process import Killed
from keras_peft.errors import KerasPeftError, OptionError
from keras_peft.progress import Progress
from keras_peft.sweeping.job import Job, Outcome
from keras_peft.sweeping.result import in_words, ranked
from keras_peft.sweeping.space import Choice
from keras_peft.sweeping.study import BELOW, Study
from keras_peft.sweeping.trial import RUNGS, Report, Stopped
from keras_peft.tasks import metric_name
from keras_peft.training.checkpoint import Checkpoint

# Seconds after which the main thread looks up, so that Ctrl-C is noticed, and others that wait for a trial.
_PATIENCE, _PERIOD = 0.1, 1.0
# Seconds to wait for a thread whose runner is closed.
_LAST = 5.0


class Runner(Protocol):
    """Runs trials one after another; see `InProcess`.

    Attributes:
        place: Name of the machine that it runs on, once it is ready.
    """

    place: str

    def ready(self) -> bool:
        """Returns whether it can run a trial now; waits a moment if it cannot."""

    def train(self, choice: Choice, report: Report) -> Outcome:
        """Trains with some settings."""

    def close(self) -> None:
        """Ends it."""


class Driver:
    """Runs the trials of a study.

    Args:
        study: The study.
        job: What all trials share.
        trials: Number of trials that should end, with those of earlier runs.
        budget: Seconds after which no trial starts or goes on, or None. The one with the defaults always ends.
        progress: Receives progress events.
    """

    def __init__(
        self, study: Study, job: Job, *, trials: int, budget: float | None, progress: Progress
    ) -> None:
        self._study, self._job, self._trials, self._progress = study, job, trials, progress
        self._deadline = None if budget is None else time.monotonic() + budget
        # All threads share the study.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._running = 0
        self._shares: dict[int, float] = {}
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        # On each machine, one runner begins. The others there start when its trial has computed the frozen blocks,
        # which they then find in the cache.
        self._beginning: dict[str, Runner] = {}
        self._begun = set[str]()

    def run(self, runners: Sequence[Runner]) -> None:
        """Runs trials; with several runners, at the same time.

        Args:
            runners: What runs the trials.

        Raises:
            KerasPeftError: If the trial with the defaults cannot be trained.
        """
        self._progress.searching(trials=self._trials, done=len(self._study.ended()))
        try:
            if len(runners) == 1:
                self._work(runners[0])
            else:
                self._run_together(runners)
        except BaseException as error:
            self._fail(error)
        finally:
            for runner in runners:
                runner.close()
            for thread in self._threads:
                thread.join(_LAST)
            self._progress.finished()
        if self._error is not None:
            raise self._error

    def _run_together(self, runners: Sequence[Runner]) -> None:
        threads = [threading.Thread(target=self._work, args=(one,), daemon=True) for one in runners]
        self._threads = threads
        for thread in threads:
            thread.start()
        while self._error is None and any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(_PATIENCE / len(threads))

    def _work(self, runner: Runner) -> None:
        """Runs trials one after another, until there are enough."""
        try:
            while not self._is_over():
                asked = self._next(runner) if runner.ready() else None
                if asked is None:
                    with self._lock:
                        self._changed.wait(_PERIOD)
                    continue
                try:
                    self._run(runner, *asked)
                finally:
                    self._ran(runner, asked[0])
        except BaseException as error:
            self._fail(error)

    def _is_over(self) -> bool:
        with self._lock:
            ended = len(self._study.ended())
            return self._error is not None or ended >= self._trials or (ended > 0 and self._is_late())

    def _next(self, runner: Runner) -> tuple[Any, Choice] | None:
        """Returns the next trial, or None if there is none now; a trial that runs may be interrupted and go on."""
        with self._lock:
            if self._error is not None or len(self._study.ended()) + self._running >= self._trials:
                return None
            place = runner.place
            if place not in self._begun and self._beginning.setdefault(place, runner) is not runner:
                return None
            self._running += 1
            return self._study.ask()

    def _ran(self, runner: Runner, trial: Any) -> None:
        """Tells those that wait that a trial has ended, in whatever way."""
        with self._lock:
            self._running -= 1
            self._shares.pop(trial.number, None)
            self._beginning = {key: one for key, one in self._beginning.items() if one is not runner}
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
            self._changed.notify_all()

    def _run(self, runner: Runner, trial: Any, choice: Choice) -> None:
        def report(rung: int, score: float) -> bool:
            with self._lock:
                if runner.place not in self._begun:
                    self._begun.add(runner.place)
                    self._changed.notify_all()
                goes_on = self._study.report(trial, rung, score)
                self._shares[trial.number] = rung / RUNGS
                self._progress.trials_advanced(done=len(self._study.ended()) + sum(self._shares.values()))
                if self._is_late() and not self._study.is_default(trial):
                    raise _OutOfTime
                return goes_on

        try:
            outcome = runner.train(choice, report)
        except _OutOfTime:
            runner.close()
            with self._lock:
                self._study.interrupt(trial)
            return
        except Killed as error:
            with self._lock:
                if self._error is None and not self._study.interrupt(trial, by=str(error)):
                    self._tell(trial)
                    if self._study.is_default(trial):
                        raise OptionError(
                            f"The trial with the defaults cannot be trained: {error}."
                        ) from None
            return
        except Stopped:
            self._end(trial, choice, None, BELOW)
        except KerasPeftError as error:
            if self._study.is_default(trial):
                raise
            self._end(trial, choice, None, str(error))
        else:
            self._end(trial, choice, outcome, "")

    def _end(self, trial: Any, choice: Choice, outcome: Outcome | None, reason: str) -> None:
        """Stores how a trial ended, and removes its checkpoint."""
        with self._lock:
            if outcome is None:
                self._study.prune(trial, reason)
            else:
                self._study.complete(trial, outcome)
            self._tell(trial)
        Checkpoint(self._job.checkpoint_of(choice), {}).remove()

    def _tell(self, trial: Any) -> None:
        """Reports how a trial ended."""
        ended = self._study.ended()
        entry = self._study.entry(trial.number)
        best = next(iter(ranked(ended)), None)
        score = "" if best is None else f"{best['score']:.4f}"
        self._progress.trial_ended(done=len(ended), text=_told(entry, best), best=score)

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline


def _told(entry: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    """Returns a line about a trial."""
    if entry["score"] is None:
        rung = max(map(int, entry["rungs"]), default=0)
        reached = f"stopped after {100 * rung // RUNGS}%" if rung else "not trained"
        reached += f": {entry['reason'].removesuffix('.')}"
    else:
        name = metric_name(next(iter(entry["metrics"])))
        is_best = best is not None and best["trial"] == entry["trial"] and not entry["defaults"]
        reached = f"{name} {entry['score']:.4f}{', the best so far' if is_best else ''}"
    settings = "the defaults" if entry["defaults"] else in_words(entry["settings"])
    return f"Trial {entry['trial']}: {reached}, {entry['seconds']:.0f} s ({settings})"


class _OutOfTime(Exception):
    """Raised in a trial when the time is over."""
