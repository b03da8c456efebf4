"""Worker threads that take batches from the queue and run them.

The event loop adds rows to the queue, and the workers take batches from it without waiting for the
loop. The loop wakes up once per batch.
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
"""Head outputs of a row, or the error that it raised."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wait times of a batcher, in seconds.

    Attributes:
        beat: Interval between heartbeats of an idle worker.
        soonest: Minimum `retry_after` of a request that is refused because the server is busy.
        patience: Maximum time that `Workers.run_in_this_thread` waits for an idle worker.
        ending: Maximum time that `Workers.end` waits for the threads.
    """

    beat: float = 0.5
    soonest: float = 0.25
    patience: float = 0.25
    ending: float = 0.5


class Workers(Generic[PendingRowT]):
    """Threads that run the rows of a queue.

    Args:
        engine: Engine that runs the rows.
        settings: Settings of the server.
        observer: Receives events about batches.
        deliver: Called in the event loop after each batch, with its rows, their outputs, and its
            start and end on the clock of `time.monotonic`.
        timing: Wait times.

    Attributes:
        changed: Condition that guards the queue; notify it after adding rows.
        queue: Rows that wait. Hold `changed` to modify it.
        running: Number of rows that are being computed.
        idle: Number of idle workers.
        threads: The worker threads.
        beats: Last heartbeat of each worker, on the clock of `time.monotonic`.
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
        """Starts the threads.

        Args:
            loop: Event loop in which `deliver` is called.
        """
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
        """Time since the oldest heartbeat of a worker, in seconds."""
        return time.monotonic() - min(self.beats) if self.beats else 0.0

    def run_in_this_thread(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Runs rows in the calling thread, preferably while a worker is idle.

        Running next to batches on all CPUs would slow those down. The wait for an idle worker is
        short, so that the call succeeds even if all workers hang.

        Args:
            rows: The rows.

        Returns:
            The head outputs of each row.
        """
        with self.changed:
            self._idles.wait_for(lambda: self.idle, self._timing.patience)
        return self._engine.run(rows)

    async def end(self) -> None:
        """Ends the threads after their current batches."""
        with self.changed:
            self._is_over = True
            self.changed.notify_all()
        await asyncio.to_thread(self._join)

    def tell_queue(self) -> None:
        """Tells the observer how many rows wait and run; call it while holding `changed`."""
        self._observer.queue_changed(waiting=len(self.queue), running=self.running)

    def _work(self, worker: int) -> None:
        while batch := self._next(worker):
            started = time.monotonic()
            outputs = self._outputs(batch, started)
            with self.changed:
                self.running -= len(batch)
            # The loop is already closed if the server stopped without waiting for the batch.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, batch, outputs, started, time.monotonic())

    def _next(self, worker: int) -> list[PendingRowT]:
        """Waits for the next batch; returns an empty list when the workers should end."""
        patience: float | None = None
        with self.changed:
            while not self._is_over:
                now = self.beats[worker] = time.monotonic()
                if not self.queue:
                    self.idle += 1
                    self._idles.notify_all()
                    self.changed.wait(self._timing.beat)
                    self.idle -= 1
                    # Only a worker that was idle waits for more rows.
                    patience = time.monotonic() + self._settings.max_wait_ms / 1000
                elif patience and now < patience and len(self.queue) < self._settings.max_batch_rows:
                    self.changed.wait(patience - now)
                elif batch := self.queue.take(now):
                    self.running += len(batch)
                    self.tell_queue()
                    if self.queue:
                        # Another worker can take the remaining rows.
                        self.changed.notify()
                    return batch
        return []

    def _outputs(self, batch: Sequence[PendingRowT], started: float) -> Sequence[Output]:
        """Runs a batch; if it fails, runs each adapter separately so that only the faulty one fails."""
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
            raise ValueError(f"expected the outputs of {len(batch)} rows, got {len(outputs)}")
        return outputs

    def _join(self) -> None:
        end = time.monotonic() + self._timing.ending
        for thread in self.threads:
            # Threads that hang are daemons and end with the process.
            thread.join(max(0.0, end - time.monotonic()))
