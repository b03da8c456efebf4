"""The threads that compute: each takes a batch of the rows that wait, runs it, and takes the next.

The loop puts rows into the queue and worker threads take batches from it, so that a worker
that is done goes on without waiting for the loop. The loop wakes up once for each batch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Generic

import numpy as np

from keras_peft.serve.fair_queue import FairQueue, PendingRowT

if TYPE_CHECKING:
    from keras_peft.serve.engines._engine import Engine
    from keras_peft.serve.loaded_adapter import AdapterRow
    from keras_peft.serve.observer import Observer
    from keras_peft.serve.settings import ServeSettings

_log = logging.getLogger(__name__)

Output = np.ndarray | Exception
"""What a row gave, or why it gave nothing."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a batcher waits for what, in seconds.

    Attributes:
        beat: How often an idle worker turns round.
        soonest: The shortest time after which a refused request is asked to come again.
        patience: How long rows of other threads wait for a worker to be idle.
        ending: How long workers that have nothing to do may take to end.
    """

    beat: float = 0.5
    soonest: float = 0.25
    patience: float = 0.25
    ending: float = 0.5


class Workers(Generic[PendingRowT]):
    """Threads that compute the rows that wait.

    Args:
        engine: What the rows run on.
        settings: The limits.
        observer: Is told of batches.
        deliver: Called in the loop with the rows of a batch, what they gave, and when it began
            and ended, on the clock of `time.monotonic`.
        timing: How long they wait for what.

    Attributes:
        changed: The lock of the queue; notify it when rows have come.
        queue: The rows that wait. Hold `changed` to change it.
        running: Rows that are being computed.
        idle: Workers that have nothing to do.
        threads: The threads.
        beats: When each of them last turned round, on the clock of `time.monotonic`.
    """

    def __init__(
        self,
        engine: Engine,
        settings: ServeSettings,
        observer: Observer,
        deliver: Callable[[Sequence[PendingRowT], Sequence[Output], float, float], None],
        timing: Timing,
    ) -> None:
        self._engine, self._settings, self._observer = engine, settings, observer
        self._deliver, self._timing = deliver, timing
        lock = threading.Lock()
        self.changed, self._idles = threading.Condition(lock), threading.Condition(lock)
        self.queue: FairQueue[PendingRowT] = FairQueue(
            most_rows=settings.max_batch_rows,
            most_tokens=settings.max_batch_tokens,
            max_age=settings.max_age_ms / 1000,
        )
        self.running = self.idle = 0
        self.threads: list[threading.Thread] = []
        self.beats: list[float] = []
        self._is_over = False
        self._loop: asyncio.AbstractEventLoop

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the threads, which deliver in a loop."""
        self._loop = loop
        count = self._settings.workers or self._engine.workers
        self.beats = [time.monotonic()] * count
        for number in range(count):
            thread = threading.Thread(
                target=self._work, args=(number,), name=f"keras-peft-worker-{number}", daemon=True
            )
            self.threads.append(thread)
            thread.start()

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the slowest worker last turned round; idle ones turn all the time."""
        return time.monotonic() - min(self.beats) if self.beats else 0.0

    def run_beside(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Runs rows in the thread that calls it, as soon as a worker has nothing to do.

        Beside batches on all processors they would slow these down. They do not wait for long, so
        that nothing depends on workers that hang, and no worker waits for them.
        """
        with self.changed:
            self._idles.wait_for(lambda: self.idle, self._timing.patience)
        return self._engine.run(rows)

    async def end(self) -> None:
        """Lets the threads end when they have computed what they have taken."""
        with self.changed:
            self._is_over = True
            self.changed.notify_all()
        await asyncio.to_thread(self._join)

    def _work(self, worker: int) -> None:
        while batch := self._next(worker):
            started = time.monotonic()
            outputs = self._outputs(batch, started)
            with self.changed:
                self.running -= len(batch)
            # The loop is closed where a server could not wait for a batch.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, batch, outputs, started, time.monotonic())

    def _next(self, worker: int) -> list[PendingRowT]:
        """Waits for rows; gives none when there is nothing more to do."""
        patience: float | None = None
        with self.changed:
            while not self._is_over:
                now = self.beats[worker] = time.monotonic()
                if not self.queue:
                    self.idle += 1
                    self._idles.notify_all()
                    self.changed.wait(self._timing.beat)
                    self.idle -= 1
                    # Only a worker that had nothing to do has time to wait for more.
                    patience = time.monotonic() + self._settings.max_wait_ms / 1000
                elif patience and now < patience and len(self.queue) < self._settings.max_batch_rows:
                    self.changed.wait(patience - now)
                elif batch := self.queue.take(now):
                    self.running += len(batch)
                    if self.queue:
                        # What does not go with these is for another worker.
                        self.changed.notify()
                    return batch
        return []

    def _outputs(self, batch: Sequence[PendingRowT], started: float) -> Sequence[Output]:
        """Runs a batch; where that fails each adapter by itself, so that one at fault fails alone."""
        adapters = {pending.row.adapter for pending in batch}
        self._observer.batch_started(
            rows=len(batch),
            tokens=sum(pending.length for pending in batch),
            padded=len(batch) * max(pending.length for pending in batch),
            distinct_adapters=len(adapters),
            waited=[started - pending.came for pending in batch],
        )
        failed = False
        try:
            outputs: Sequence[Output] = self._computed(batch)
        except Exception as error:
            failed = True
            _log.exception("A batch of %d rows of %d adapters failed.", len(batch), len(adapters))
            outputs = self._one_by_one(batch) if len(adapters) > 1 else [error] * len(batch)
        seconds = time.monotonic() - started
        self._observer.batch_ended(rows=len(batch), seconds=seconds, failed=failed)
        return outputs

    def _one_by_one(self, batch: Sequence[PendingRowT]) -> list[Output]:
        found: dict[PendingRowT, Output] = {}
        for adapter, group in groupby(
            sorted(batch, key=lambda pending: id(pending.row.adapter)), lambda pending: pending.row.adapter
        ):
            own = list(group)
            try:
                found |= zip(own, self._computed(own), strict=True)
            except Exception as error:
                _log.exception("The adapter %s failed.", adapter.name)
                found |= dict.fromkeys(own, error)
        return [found[pending] for pending in batch]

    def _computed(self, batch: Sequence[PendingRowT]) -> list[np.ndarray]:
        outputs = self._engine.run([pending.row for pending in batch])
        if len(outputs) != len(batch):
            raise ValueError(f"expected outputs of {len(batch)} rows, got those of {len(outputs)}")
        return outputs

    def _join(self) -> None:
        end = time.monotonic() + self._timing.ending
        for thread in self.threads:
            # One that hangs is left behind; it ends with the process.
            thread.join(max(0.0, end - time.monotonic()))
