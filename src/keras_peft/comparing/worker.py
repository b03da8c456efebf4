"""The process that trains: gets requests, answers with events, and writes results to files.

A process of its own can be replaced when its memory has grown, and can die without the comparison.
"""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from keras_peft.comparing.candidates import method_of
from keras_peft.comparing.jobs import Cancel, Final, Job, Setup
from keras_peft.comparing.measuring import Measurer
from keras_peft.comparing.sides import read_sides
from keras_peft.comparing.storing import write_result
from keras_peft.errors import DataError, KerasPeftError, reason_of
from keras_peft.memory import rss_mb
from keras_peft.parent_process import connect
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch

if TYPE_CHECKING:
    from keras_peft.core.plan import Plan

# Seconds between events of the steps.
_TELLING = 0.25

Tell = Callable[[dict[str, Any]], None]


class Cancelled(Exception):
    """Raised in a training that is to end."""


class Worker:
    """Does what the process that compares asks for."""

    def __init__(self) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        self._cancelled = ""
        self._setup: Setup
        self._data: Any
        self._measurer: Measurer
        self._tell: Tell = connect(self._take)

    def run(self) -> NoReturn:
        """Answers requests, each with an event at its end."""
        while True:
            request = self._requests.get()
            try:
                self._tell({"event": "done", **self._answer(request), "rss_mb": rss_mb()})
            except Cancelled:
                self._tell({"event": "cancelled", "rss_mb": rss_mb()})
            except KerasPeftError as error:
                self._tell({"event": "failed", "why": str(error), "lasting": True, "rss_mb": rss_mb()})
            except Exception as error:
                traceback.print_exc()
                why = f"{type(error).__name__}: {reason_of(error)}"
                self._tell({"event": "failed", "why": why, "lasting": False, "rss_mb": rss_mb()})

    def _take(self, request: Setup | Job | Final | Cancel) -> None:
        """Takes a request; the end of a training is for the one that runs."""
        if isinstance(request, Cancel):
            self._cancelled = request.job
        else:
            self._requests.put(request)

    def _answer(self, request: Setup | Job | Final) -> dict[str, Any]:
        if isinstance(request, Setup):
            return self._begin(request)
        if isinstance(request, Final):
            return self._finish(request)
        stopwatch = Stopwatch()
        result = self._measurer.measure(request, self._progress(request.name), stopwatch)
        write_result(self._setup.results, request, result)
        return {"seconds": stopwatch.read()}

    def _begin(self, setup: Setup) -> dict[str, Any]:
        sides = read_sides(setup.data, setup.test, setup.settings, Progress())
        if sides.sha256() != setup.sha256:
            raise DataError("The data changed during the comparison; start again with `overwrite=True`.")
        self._setup, self._data, self._measurer = setup, sides.data, Measurer(sides, setup.settings)
        return {}

    def _finish(self, final: Final) -> dict[str, Any]:
        from keras_peft.training.fine_tune import fine_tune

        fine_tune(
            self._data,
            out=final.out,
            method=method_of(final.method),
            overwrite=True,
            track=(),
            progress=self._progress(""),
            **final.options,
        )
        return {}

    def _progress(self, job: str) -> Progress:
        return _Told(self._tell, lambda: bool(job) and self._cancelled == job)


class _Told(Progress):
    """Sends the progress of a training, and ends it if it is cancelled."""

    def __init__(self, tell: Tell, is_cancelled: Callable[[], bool]) -> None:
        self._tell, self._is_cancelled = tell, is_cancelled
        self._done = self._total = self._epochs = self._rows = self._blocks = 0
        self._told = 0.0

    def note(self, text: str) -> None:
        self._tell({"event": "note", "text": text})

    def planned(self, plan: Plan, settings: dict[str, Any]) -> None:
        self._rows = 0 if settings["folds"] else settings["validation_rows"]
        self._blocks = plan.blocks
        self._tell({"event": "planned", "blocks": plan.blocks})

    def trunk_computed(self, *, rows: int) -> None:
        self._check()

    def started(self, *, epochs: int, steps: int, done: int) -> None:
        self._epochs, self._total, self._done = epochs, epochs * steps, done * steps
        self._tell_steps()

    def stepped(self, *, loss: float) -> None:
        self._done += 1
        self._check()
        if time.monotonic() - self._told >= _TELLING:
            self._tell_steps()

    def epoch_ended(self, *, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        score = next(iter(metrics.values()), None)
        told = {"epoch": epoch, "epochs": self._epochs, "score": score, "rows": self._rows}
        self._tell({"event": "epoch", **told})

    def _tell_steps(self) -> None:
        self._told = time.monotonic()
        self._tell({"event": "step", "done": self._done, "total": self._total})

    def _check(self) -> None:
        if self._is_cancelled():
            raise Cancelled


if __name__ == "__main__":
    Worker().run()
