"""Requests in the queue and the rows they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_peft.serve.fair_queue import PendingRow

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.serve.failures import Failure
    from keras_peft.serve.loaded_adapter import AdapterRow


@dataclass(frozen=True, slots=True)
class RowOutputs:
    """Outputs of the rows of a request.

    Attributes:
        outputs: Head outputs of each row.
        queued: Time until the first row started, in seconds.
        computed: Time from then until the last row finished, in seconds.
    """

    outputs: list[np.ndarray]
    queued: float
    computed: float


class WaitingRow(PendingRow):
    """A pending row and the requests that wait for it.

    Attributes:
        ids: Token IDs as bytes.
        waiters: The requests that wait for the row, each with the index of the row in the request.
        admitted: Number of rows that it counts towards the limit of the queue.
    """

    __slots__ = ("admitted", "ids", "waiters")

    def __init__(
        self, row: AdapterRow, ids: bytes, *, deadline: float, came: float, shared: Hashable
    ) -> None:
        super().__init__(row, ids, deadline=deadline, came=came, shared=shared)
        self.ids = ids
        self.waiters: list[tuple[Request, int]] = []
        self.admitted = 0


class Request:
    """Rows that were submitted together, with their outputs and timings.

    Args:
        rows: Number of rows.
        came: Arrival time, on the clock of `time.monotonic`.
        future: Completed when all rows are done.
    """

    __slots__ = ("came", "end", "future", "missing", "outputs", "pending", "start")

    def __init__(self, rows: int, came: float, future: asyncio.Future[None]) -> None:
        self.outputs: list[Any] = [None] * rows
        self.pending: list[WaitingRow] = []
        self.missing, self.future = rows, future
        self.came = self.end = came
        self.start = float("inf")

    def take(self, place: int, output: np.ndarray, start: float, end: float) -> None:
        """Stores the outputs of a row; completes the request after the last one.

        Args:
            place: Index of the row in the request.
            output: Head outputs of the row.
            start: Start of the computation, on the clock of `time.monotonic`.
            end: End of the computation, on the same clock.
        """
        self.outputs[place] = output
        self.missing -= 1
        self.start, self.end = min(self.start, start), max(self.end, end)
        if not self.missing and not self.future.done():
            self.future.set_result(None)

    def ran(self) -> RowOutputs:
        """Returns the outputs of all rows."""
        start = min(max(self.start, self.came), self.end)
        return RowOutputs(self.outputs, queued=start - self.came, computed=self.end - start)


def fail(future: asyncio.Future[None], failure: Failure) -> None:
    """Fails a request, unless it is already done.

    Args:
        future: Future of the request.
        failure: The failure.
    """
    if not future.done():
        future.set_exception(failure)
