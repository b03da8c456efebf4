"""The request queue of all adapters: limits, deduplication and delivery."""

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

# Weight of the latest batch in the moving average of the time per row.
_NEWEST = 0.2


class Admission:
    """Space in the queue that is reserved for a request. Closing the context releases it.

    Args:
        batcher: Batcher that owns the queue.
        rows: Number of rows.
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
        """Releases the space. Further calls do nothing."""
        self._batcher._admitted -= self._rows
        self._rows = 0


class Batcher:
    """Runs rows of any adapters in mixed batches.

    A batch starts as soon as a worker is free. Identical rows that wait at the same time are
    computed once.

    Args:
        engine: Engine that runs the rows.
        settings: Settings of the server.
        observer: Receives events about batches and the queue.
        timing: Wait times. Defaults to `Timing()`.

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
        # Accessed only from the event loop.
        self._loop: asyncio.AbstractEventLoop
        self._is_stopping = False
        self._pending: dict[tuple[Any, bytes], WaitingRow] = {}
        self._requests: set[asyncio.Future[None]] = set()
        self._admitted = 0
        self._seconds_per_row = 0.0

    def start(self) -> None:
        """Starts the workers. Call it in the event loop that submits rows."""
        self._loop = asyncio.get_running_loop()
        self._workers.start(self._loop)

    @property
    def waiting(self) -> int:
        """Number of distinct rows that wait."""
        return len(self._workers.queue)

    @property
    def running(self) -> int:
        """Number of distinct rows that are being computed."""
        return self._workers.running

    @property
    def idle(self) -> int:
        """Number of idle workers."""
        return self._workers.idle

    @property
    def heartbeat_age(self) -> float:
        """Time since the oldest heartbeat of a worker, in seconds."""
        return self._workers.heartbeat_age

    def admit(self, rows: int, *, deadline: float) -> Admission:
        """Reserves space in the queue for a request.

        Reserving first lets a busy server refuse a request before it does any work on it.

        Args:
            rows: Minimum number of rows of the request.
            deadline: Deadline of the request, on the clock of `time.monotonic`.

        Returns:
            The reservation, a context manager.

        Raises:
            Overloaded: If there is not enough space in the queue now.
            TooLarge: If the request is larger than the whole queue.
            TimedOut: If the deadline has passed.
            NotReady: If the server is shutting down.
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
        """Runs the rows of a request; they succeed or fail together.

        If the awaiting task is cancelled, rows that have not started are removed from the queue.

        Args:
            rows: Rows of the request.
            deadline: Time at which to give up, on the clock of `time.monotonic`.
            key: Name of the API key of the request; keys share the server fairly.
            admission: Space reserved for the request. There may be more rows than it reserves, if
                the queue has space for them.

        Returns:
            The head outputs of the rows, with timings.

        Raises:
            Overloaded: If there is not enough space in the queue now.
            TooLarge: If the request is larger than the whole queue.
            TimedOut: If the deadline passes.
            NotReady: If the server is shutting down.
            BackendFailed: If a row cannot be computed.
        """
        now = time.monotonic()
        if admission is not None:
            # Safe: the event loop runs nothing else until the rows are in the queue.
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

    def run_in_this_thread(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Runs rows in the calling thread; see `Workers.run_in_this_thread`.

        Args:
            rows: The rows.

        Returns:
            The head outputs of each row.
        """
        return self._workers.run_in_this_thread(rows)

    async def stop(self, timeout: float) -> None:
        """Stops accepting rows, finishes pending requests and ends the workers.

        Args:
            timeout: Time after which pending requests fail with `NotReady`, in seconds.
        """
        self._is_stopping = True
        if self._requests:
            await asyncio.wait(self._requests, timeout=timeout)
        for future in self._requests:
            fail(future, NotReady(_ENDS))
        await self._workers.end()

    # ---- Called in the event loop

    def _check(self, rows: int, remaining: float) -> None:
        most = self._settings.max_queue
        if self._is_stopping:
            raise NotReady(_ENDS)
        if rows > most:
            raise TooLarge(
                f"The request has {rows} rows, counting each window of a long text; the server accepts at "
                f"most {most}. Send fewer texts per request."
            )
        if self._admitted + rows > most:
            wait = max(self._timing.soonest, self._admitted * self._seconds_per_row)
            raise Overloaded(
                f"The server is busy: {self._admitted} of at most {most} rows are waiting or running. Try "
                f"again in {wait:.1f} seconds.",
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
        """Removes the rows that only an abandoned request waits for."""
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
        """Passes the outputs of a batch to the waiting requests."""
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
        with self._workers.changed:
            self._workers.tell_queue()


_ENDS = "The server is shutting down; try another one, or try again later."
_FAILED = "The prediction failed; see the server's log."
