"""One queue for the rows of all adapters: its limits, and who waits for which row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.serve.failures import LATE, BackendFailed, NotReady, Overloaded, TimedOut, TooLarge
from keras_peft.serve.request import Request, RowOutputs, WaitingRow, fail
from keras_peft.serve.workers import Output, Timing, Workers

if TYPE_CHECKING:
    from keras_peft.serve.engines._engine import Engine
    from keras_peft.serve.loaded_adapter import AdapterRow
    from keras_peft.serve.observer import Observer
    from keras_peft.serve.settings import ServeSettings

# The share of the last batch in the mean of how long a row takes.
_NEWEST = 0.2


class Admission:
    """Room in the queue that is kept for rows to come; the end of its context gives it back.

    Args:
        batcher: Whose queue it is.
        rows: How many rows it is for.
    """

    __slots__ = ("_batcher", "_rows")

    def __init__(self, batcher: Batcher, rows: int) -> None:
        self._batcher, self._rows = batcher, rows
        batcher._admitted += rows

    def __enter__(self) -> Admission:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Gives the room back; a second time does nothing."""
        self._batcher._admitted -= self._rows
        self._rows = 0


class Batcher:
    """Runs rows of any adapters together.

    A batch starts as soon as a worker is free. Rows that are the same and come at the same
    time are computed once.

    Args:
        engine: What the rows run on.
        settings: The limits.
        observer: Is told of batches and of the queue.
        timing: How long it waits for what.

    Example:
        >>> batcher = Batcher(engine, ServeSettings(), Observer())
        >>> batcher.start()
        >>> with batcher.admit(len(texts), deadline=deadline) as admission:
        ...     ran = await batcher.submit(read(texts), deadline=deadline, admission=admission)
        >>> await batcher.stop(timeout=30)
    """

    def __init__(
        self,
        engine: Engine,
        settings: ServeSettings,
        observer: Observer,
        *,
        timing: Timing | None = None,
    ) -> None:
        self._engine, self._settings, self._observer = engine, settings, observer
        self._timing = timing or Timing()
        self._workers: Workers[WaitingRow] = Workers(engine, settings, observer, self._deliver, self._timing)
        # What only the loop touches.
        self._loop: asyncio.AbstractEventLoop
        self._is_stopping = False
        self._pending: dict[tuple[Any, bytes], WaitingRow] = {}
        self._requests: set[asyncio.Future[None]] = set()
        self._admitted = 0
        self._seconds_per_row = 0.0

    def start(self) -> None:
        """Starts the workers; call it in the loop that submits."""
        self._loop = asyncio.get_running_loop()
        self._workers.start(self._loop)

    @property
    def waiting(self) -> int:
        """Different rows that wait."""
        return len(self._workers.queue)

    @property
    def running(self) -> int:
        """Different rows that are being computed."""
        return self._workers.running

    @property
    def idle(self) -> int:
        """Workers that have nothing to do."""
        return self._workers.idle

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the slowest worker last turned round; idle ones turn all the time."""
        return self._workers.heartbeat_age

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
        self,
        rows: Sequence[AdapterRow],
        *,
        deadline: float,
        key: str = "",
        admission: Admission | None = None,
    ) -> RowOutputs:
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
        request = Request(len(rows), now, self._loop.create_future())
        if not rows:
            return request.ran()
        self._requests.add(request.future)
        timer = self._loop.call_later(deadline - now, fail, request.future, TimedOut(LATE))
        try:
            self._enqueue(rows, request, deadline, key)
            await request.future
            return request.ran()
        finally:
            timer.cancel()
            self._requests.discard(request.future)
            if request.missing:
                self._abandon(request)

    def run_beside(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Runs rows in the thread that calls it; see `Workers.run_beside`."""
        return self._workers.run_beside(rows)

    async def stop(self, timeout: float) -> None:
        """Takes no new rows, finishes those that are there, and ends the workers.

        Args:
            timeout: After how many seconds the requests that are not done fail with NotReady.
        """
        self._is_stopping = True
        if self._requests:
            await asyncio.wait(self._requests, timeout=timeout)
        for future in self._requests:
            fail(future, NotReady(_ENDS))
        await self._workers.end()

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
        if self._admitted + rows > most:
            wait = max(self._timing.soonest, self._admitted * self._seconds_per_row)
            raise Overloaded(
                f"The server is busy: {self._admitted} of at most {most} rows wait or run. Try again in "
                f"{wait:.1f} seconds.",
                retry_after=wait,
            )
        if remaining <= 0:
            raise TimedOut(LATE)

    def _enqueue(self, rows: Sequence[AdapterRow], request: Request, deadline: float, key: str) -> None:
        texts = [row.ids.tobytes() for row in rows]
        self._admitted += len(rows)
        queue = self._workers.queue
        with self._workers.changed:
            before = len(queue)
            for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
                same = row.adapter, text
                pending = self._pending.get(same)
                if pending is None or pending.is_gone:
                    pending = WaitingRow(
                        row, text, deadline=deadline, came=request.came, shared=self._engine.group(row)
                    )
                    self._pending[same] = pending
                    queue.add(pending, (key, row.adapter.name))
                else:
                    pending.deadline = max(pending.deadline, deadline)
                pending.admitted += 1
                pending.waiters.append((request, place))
                request.pending.append(pending)
            if len(queue) > before:
                self._workers.changed.notify()
        self._tell_queue()

    def _abandon(self, request: Request) -> None:
        """Lets nobody compute what only a request that is given up waited for."""
        with self._workers.changed:
            for pending in dict.fromkeys(request.pending):
                others = [waiter for waiter in pending.waiters if waiter[0] is not request]
                gone = len(pending.waiters) - len(others)
                pending.waiters = others
                if pending.is_running:
                    continue
                pending.admitted -= gone
                self._admitted -= gone
                if not others:
                    if not pending.is_gone:
                        self._workers.queue.remove(pending)
                    self._forget(pending)
        self._tell_queue()

    def _deliver(
        self, batch: Sequence[WaitingRow], outputs: Sequence[Output], start: float, end: float
    ) -> None:
        """Gives whoever waited what a batch gave."""
        pace = (end - start) / len(batch) / len(self._workers.threads)
        share = _NEWEST if self._seconds_per_row else 1.0
        self._seconds_per_row += share * (pace - self._seconds_per_row)
        for pending, output in zip(batch, outputs, strict=True):
            self._forget(pending)
            self._admitted -= pending.admitted
            for request, place in pending.waiters:
                if isinstance(output, Exception):
                    fail(request.future, BackendFailed(_FAILED))
                else:
                    request.take(place, output, start, end)
            pending.waiters = []
        self._tell_queue()

    def _forget(self, pending: WaitingRow) -> None:
        same = pending.row.adapter, pending.ids
        if self._pending.get(same) is pending:
            del self._pending[same]

    def _tell_queue(self) -> None:
        self._observer.queue_changed(waiting=self.waiting, running=self.running)


_ENDS = "The server ends and takes no more requests; ask another, or try again later."
_FAILED = "The answer could not be computed; the server's log says why."
