"""Rows that were submitted together, and what they wait for."""

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
    """What the rows of a request gave.

    Attributes:
        outputs: For each row what its head gives.
        queued: How long the first of them waited, in seconds.
        computed: From then until the last was done, in seconds.
    """

    outputs: list[np.ndarray]
    queued: float
    computed: float


class WaitingRow(PendingRow):
    """A row with whoever waits for it.

    Attributes:
        ids: Its tokens as bytes.
        waiters: The requests, and which of their rows it is.
        admitted: How many rows of the queue's limit it takes.
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
    """Rows that were submitted together, and what is known of them."""

    __slots__ = ("came", "end", "future", "missing", "outputs", "pending", "start")

    def __init__(self, rows: int, came: float, future: asyncio.Future[None]) -> None:
        self.outputs: list[Any] = [None] * rows
        self.pending: list[WaitingRow] = []
        self.missing, self.future = rows, future
        self.came = self.end = came
        self.start = float("inf")

    def take(self, place: int, output: np.ndarray, start: float, end: float) -> None:
        """Takes what one of its rows gave, which was computed from `start` to `end`."""
        self.outputs[place] = output
        self.missing -= 1
        self.start, self.end = min(self.start, start), max(self.end, end)
        if not self.missing and not self.future.done():
            self.future.set_result(None)

    def ran(self) -> RowOutputs:
        """Returns what all of them gave."""
        start = min(max(self.start, self.came), self.end)
        return RowOutputs(self.outputs, queued=start - self.came, computed=self.end - start)


def fail(future: asyncio.Future[None], failure: Failure) -> None:
    """Ends a request with a failure, unless it has ended."""
    if not future.done():
        future.set_exception(failure)
