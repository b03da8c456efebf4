"""One queue for the rows of all adapters, and the threads that run them in batches.

The loop puts rows into the queue and worker threads take batches from it, so that a worker
that is done goes on without waiting for the loop. The loop wakes up once for each batch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.serve.failures import BackendFailed, Failure, NotReady, Overloaded, TimedOut, TooLarge
from keras_peft.serve.turns import Entry, Turns

if TYPE_CHECKING:
    from keras_peft.serve.loaded import Row
    from keras_peft.serve.observer import Observer
    from keras_peft.serve.settings import ServeSettings

_log = logging.getLogger(__name__)

LATE = "There was no answer before the request's deadline; send fewer or shorter texts, or try again later."
"""What is told when a deadline has passed."""
# How often an idle worker turns round, in seconds.
_BEAT = 0.5
# The shortest time after which a refused request is asked to come again, in seconds.
_SOONEST = 0.25
# The share of the last batch in the mean of how long a row takes.
_NEWEST = 0.2
# How long rows of other threads wait for a worker to be idle, in seconds.
_PATIENCE = 0.25
# How long workers that have nothing to do may take to end, in seconds.
_ENDING = 0.5


@dataclass(frozen=True, slots=True)
class Ran:
    """What the rows of a request gave.

    Attributes:
        outputs: For each row what its head gives.
        queued: How long the first of them waited, in seconds.
        computed: From then until the last was done, in seconds.
    """

    outputs: list[np.ndarray]
    queued: float
    computed: float


class Admission:
    """Room in the queue that is kept for rows to come; the end of its context gives it back.

    Args:
        batcher: Whose queue it is.
        rows: How many rows it is for.
    """

    __slots__ = ("_batcher", "_rows")

    def __init__(self, batcher: Batcher, rows: int) -> None:
        self._batcher, self._rows = batcher, rows
        batcher._held += rows

    def __enter__(self) -> Admission:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Gives the room back; a second time does nothing."""
        self._batcher._held -= self._rows
        self._rows = 0


class Batcher:
    """Runs rows of any adapters together.

    A batch starts as soon as a worker is free. Rows that are the same and come at the same
    time are computed once.

    Args:
        run: From rows to what their heads give; called from several threads.
        settings: The limits.
        observer: Is told of batches and of the queue.
        shared: What a row's computation has in common with that of others; only such run
            together. All rows do by default.

    Example:
        >>> batcher = Batcher(engine.run, ServeSettings(), Observer())
        >>> batcher.start()
        >>> with batcher.admit(len(texts), deadline=deadline) as admission:
        ...     ran = await batcher.submit(read(texts), deadline=deadline, admission=admission)
        >>> await batcher.stop(timeout=30)
    """

    def __init__(
        self,
        run: Callable[[Sequence[Row]], list[np.ndarray]],
        settings: ServeSettings,
        observer: Observer,
        *,
        shared: Callable[[Row], Hashable] = lambda row: None,
    ) -> None:
        self._run, self._settings, self._observer, self._shared = run, settings, observer, shared
        # What the loop and the workers share, and its lock.
        lock = threading.Lock()
        self._changed, self._idles = threading.Condition(lock), threading.Condition(lock)
        self._idle = 0
        self._turns: Turns[_Entry] = Turns(
            most_rows=settings.max_batch_rows,
            most_tokens=settings.max_batch_tokens,
            max_age=settings.max_age_ms / 1000,
        )
        self._running = 0
        self._is_over = False
        self._threads: list[threading.Thread] = []
        self._beats: list[float] = []
        # What only the loop touches.
        self._loop: asyncio.AbstractEventLoop
        self._is_stopping = False
        self._entries: dict[tuple[Any, bytes], _Entry] = {}
        self._requests: set[asyncio.Future[None]] = set()
        self._held = 0
        self._seconds_per_row = 0.0

    def start(self) -> None:
        """Starts the workers; call it in the loop that submits."""
        self._loop = asyncio.get_running_loop()
        count = self._settings.workers or 1
        self._beats = [time.monotonic()] * count
        for number in range(count):
            thread = threading.Thread(
                target=self._work, args=(number,), name=f"keras-peft-worker-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    @property
    def waiting(self) -> int:
        """Different rows that wait."""
        return len(self._turns)

    @property
    def running(self) -> int:
        """Different rows that are being computed."""
        return self._running

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the slowest worker last turned round; idle ones turn all the time."""
        return time.monotonic() - min(self._beats) if self._beats else 0.0

    def admit(self, rows: int, *, deadline: float) -> Admission:
        """Keeps room for a request before anything is done for it, so that one too many costs nearly nothing.

        Args:
            rows: How many rows it has at least.
            deadline: When it is given up, on the clock of `time.monotonic`.

        Raises:
            Overloaded: If the queue has no room for them now.
            TooLarge: If it can never have.
            TimedOut: If the deadline has passed.
            NotReady: If the server ends.
        """
        self._check(rows, deadline - time.monotonic())
        return Admission(self, rows)

    async def submit(
        self, rows: Sequence[Row], *, deadline: float, key: str = "", admission: Admission | None = None
    ) -> Ran:
        """Runs rows, all of them or none.

        If the task that awaits it is cancelled, rows that have not started do not run.

        Args:
            rows: The rows of a request.
            deadline: When to give up, on the clock of `time.monotonic`.
            key: Whose request it is; keys share the server fairly.
            admission: The room that was kept for them. They may be more, as far as there is room.

        Raises:
            Overloaded: If the queue has no room for them now.
            TooLarge: If it can never have.
            TimedOut: If the deadline passes first.
            NotReady: If the server ends.
            BackendFailed: If one of them cannot be computed.
        """
        now = time.monotonic()
        if admission is not None:
            # Nobody else takes the room: until the rows have it, the loop does nothing else.
            admission.end()
        self._check(len(rows), deadline - now)
        request = _Request(len(rows), now, self._loop.create_future())
        if not rows:
            return request.ran()
        self._requests.add(request.future)
        timer = self._loop.call_later(deadline - now, _fail, request.future, TimedOut(LATE))
        try:
            self._enqueue(rows, request, deadline, key)
            await request.future
            return request.ran()
        finally:
            timer.cancel()
            self._requests.discard(request.future)
            if request.missing:
                self._abandon(request)

    def run_beside(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """Runs rows in the thread that calls it, as soon as a worker has nothing to do.

        Beside batches on all processors they would slow these down. They do not wait for long, so
        that nothing depends on workers that hang, and no worker waits for them.
        """
        with self._changed:
            self._idles.wait_for(lambda: self._idle, _PATIENCE)
        return self._run(rows)

    async def stop(self, timeout: float) -> None:
        """Takes no new rows, finishes those that are there, and ends the workers.

        Args:
            timeout: After how many seconds the requests that are not done fail with NotReady.
        """
        self._is_stopping = True
        if self._requests:
            await asyncio.wait(self._requests, timeout=timeout)
        for future in self._requests:
            _fail(future, NotReady(_ENDS))
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        await asyncio.to_thread(self._join)

    # ---- In the loop

    def _check(self, rows: int, remaining: float) -> None:
        most = self._settings.max_queue
        if self._is_stopping:
            raise NotReady(_ENDS)
        if rows > most:
            raise TooLarge(
                f"The request has {rows} rows, a long text having one for each of its windows; the server holds "
                f"{most} at most. Send fewer texts in a request."
            )
        if self._held + rows > most:
            wait = max(_SOONEST, self._held * self._seconds_per_row)
            raise Overloaded(
                f"The server is busy: {self._held} of at most {most} rows wait or run. Try again in "
                f"{wait:.1f} seconds.",
                retry_after=wait,
            )
        if remaining <= 0:
            raise TimedOut(LATE)

    def _enqueue(self, rows: Sequence[Row], request: _Request, deadline: float, key: str) -> None:
        texts = [row.ids.tobytes() for row in rows]
        self._held += len(rows)
        with self._changed:
            before = len(self._turns)
            for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
                same = row.adapter, text
                entry = self._entries.get(same)
                if entry is None or entry.is_gone:
                    entry = _Entry(row, text, deadline=deadline, came=request.came, shared=self._shared(row))
                    self._entries[same] = entry
                    self._turns.add(entry, (key, row.adapter.name))
                else:
                    entry.deadline = max(entry.deadline, deadline)
                entry.held += 1
                entry.waiters.append((request, place))
                request.entries.append(entry)
            if len(self._turns) > before:
                self._changed.notify()
        self._tell_queue()

    def _abandon(self, request: _Request) -> None:
        """Lets nobody compute what only a request that is given up waited for."""
        with self._changed:
            for entry in dict.fromkeys(request.entries):
                others = [waiter for waiter in entry.waiters if waiter[0] is not request]
                gone = len(entry.waiters) - len(others)
                entry.waiters = others
                if entry.is_running:
                    continue
                entry.held -= gone
                self._held -= gone
                if not others:
                    if not entry.is_gone:
                        self._turns.remove(entry)
                    self._forget(entry)
        self._tell_queue()

    def _deliver(self, batch: Sequence[_Entry], outputs: Sequence[_Output], start: float, end: float) -> None:
        """Gives whoever waited what a batch gave."""
        pace = (end - start) / len(batch) / len(self._threads)
        share = _NEWEST if self._seconds_per_row else 1.0
        self._seconds_per_row += share * (pace - self._seconds_per_row)
        for entry, output in zip(batch, outputs, strict=True):
            self._forget(entry)
            self._held -= entry.held
            for request, place in entry.waiters:
                if isinstance(output, Exception):
                    _fail(request.future, BackendFailed(_FAILED))
                else:
                    request.take(place, output, start, end)
            entry.waiters = []
        self._tell_queue()

    def _forget(self, entry: _Entry) -> None:
        same = entry.row.adapter, entry.ids
        if self._entries.get(same) is entry:
            del self._entries[same]

    def _tell_queue(self) -> None:
        self._observer.queue_changed(waiting=self.waiting, running=self.running)

    # ---- In the workers

    def _work(self, worker: int) -> None:
        while batch := self._next(worker):
            started = time.monotonic()
            outputs = self._outputs(batch, started)
            with self._changed:
                self._running -= len(batch)
            # The loop is closed where a server could not wait for a batch.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, batch, outputs, started, time.monotonic())

    def _next(self, worker: int) -> list[_Entry]:
        """Waits for rows; gives none when there is nothing more to do."""
        patience: float | None = None
        with self._changed:
            while not self._is_over:
                now = self._beats[worker] = time.monotonic()
                if not self._turns:
                    self._idle += 1
                    self._idles.notify_all()
                    self._changed.wait(_BEAT)
                    self._idle -= 1
                    # Only a worker that had nothing to do has time to wait for more.
                    patience = time.monotonic() + self._settings.max_wait_ms / 1000
                elif patience and now < patience and len(self._turns) < self._settings.max_batch_rows:
                    self._changed.wait(patience - now)
                elif batch := self._turns.take(now):
                    self._running += len(batch)
                    if self._turns:
                        # What does not go with these is for another worker.
                        self._changed.notify()
                    return batch
        return []

    def _outputs(self, batch: Sequence[_Entry], started: float) -> Sequence[_Output]:
        """Runs a batch; where that fails each adapter by itself, so that one at fault fails alone."""
        adapters = {entry.row.adapter for entry in batch}
        self._observer.batch_started(
            rows=len(batch),
            tokens=sum(entry.length for entry in batch),
            padded=len(batch) * max(entry.length for entry in batch),
            distinct_adapters=len(adapters),
            waited=[started - entry.came for entry in batch],
        )
        failed = False
        try:
            outputs: Sequence[_Output] = self._computed(batch)
        except Exception as error:
            failed = True
            _log.exception("A batch of %d rows of %d adapters failed.", len(batch), len(adapters))
            outputs = self._one_by_one(batch) if len(adapters) > 1 else [error] * len(batch)
        seconds = time.monotonic() - started
        self._observer.batch_ended(rows=len(batch), seconds=seconds, failed=failed)
        return outputs

    def _one_by_one(self, batch: Sequence[_Entry]) -> list[_Output]:
        found: dict[_Entry, _Output] = {}
        for adapter, group in groupby(
            sorted(batch, key=lambda entry: id(entry.row.adapter)), lambda entry: entry.row.adapter
        ):
            own = list(group)
            try:
                found |= zip(own, self._computed(own), strict=True)
            except Exception as error:
                _log.exception("The adapter %s failed.", adapter.name)
                found |= dict.fromkeys(own, error)
        return [found[entry] for entry in batch]

    def _computed(self, batch: Sequence[_Entry]) -> list[np.ndarray]:
        outputs = self._run([entry.row for entry in batch])
        if len(outputs) != len(batch):
            raise ValueError(f"expected outputs of {len(batch)} rows, got those of {len(outputs)}")
        return outputs

    def _join(self) -> None:
        end = time.monotonic() + _ENDING
        for thread in self._threads:
            # One that hangs is left behind; it ends with the process.
            thread.join(max(0.0, end - time.monotonic()))


_Output = np.ndarray | Exception
_ENDS = "The server ends and takes no more requests; ask another, or try again later."
_FAILED = "The answer could not be computed; the server's log says why."


class _Entry(Entry):
    """A row with whoever waits for it.

    Attributes:
        ids: Its tokens as bytes.
        waiters: The requests, and which of their rows it is.
        held: How many rows of the queue's limit it takes.
    """

    __slots__ = ("held", "ids", "waiters")

    def __init__(self, row: Row, ids: bytes, *, deadline: float, came: float, shared: Hashable) -> None:
        super().__init__(row, ids, deadline=deadline, came=came, shared=shared)
        self.ids = ids
        self.waiters: list[tuple[_Request, int]] = []
        self.held = 0


class _Request:
    """Rows that were submitted together, and what is known of them."""

    __slots__ = ("came", "end", "entries", "future", "missing", "outputs", "start")

    def __init__(self, rows: int, came: float, future: asyncio.Future[None]) -> None:
        self.outputs: list[Any] = [None] * rows
        self.entries: list[_Entry] = []
        self.missing, self.future = rows, future
        self.came = self.end = came
        self.start = float("inf")

    def take(self, place: int, output: np.ndarray, start: float, end: float) -> None:
        self.outputs[place] = output
        self.missing -= 1
        self.start, self.end = min(self.start, start), max(self.end, end)
        if not self.missing and not self.future.done():
            self.future.set_result(None)

    def ran(self) -> Ran:
        start = min(max(self.start, self.came), self.end)
        return Ran(self.outputs, queued=start - self.came, computed=self.end - start)


def _fail(future: asyncio.Future[None], failure: Failure) -> None:
    if not future.done():
        future.set_exception(failure)
