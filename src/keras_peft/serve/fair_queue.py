"""A fair queue that groups rows of similar length into batches.

The rows of one API key for one adapter form a flow. While several flows have waiting rows, each
gets the same number of tokens, so that a burst in one flow does not delay the others. The algorithm
is start-time fair queueing: Goyal, Vin and Cheng 1996, "Start-time Fair Queuing: A Scheduling
Algorithm for Integrated Services Packet Switching Networks". A single flow is served first come,
first served.

The next row in this order leads a batch. It is joined by some of the rows that follow: those that
share the blocks below their adapters with it and have a similar length, so that little padding is
computed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Sequence
from itertools import accumulate, count
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from keras_peft.serve.loaded_adapter import AdapterRow

# Number of batches' worth of rows that are searched for rows of similar length.
_REACH = 4
# Rows run together if the shortest is at least `longest * (1 - _SHARE) - _TOKENS` tokens long.
_SHARE, _TOKENS = 0.125, 4
# Number of flows above which the state of flows without a backlog is dropped.
_MOST_FLOWS = 1024


class PendingRow:
    """A row in the queue, computed once for all requests that wait for it.

    Args:
        row: The row.
        text: A value that is equal for rows with the same tokens.
        deadline: Time after which no request waits for it, on the clock of `time.monotonic`.
        came: Arrival time, on the same clock.
        shared: Batching key; only rows with equal keys run together.

    Attributes:
        length: Number of tokens.
        turn: Virtual start time in the fair order, in tokens.
        passed: Time at which it was first passed over, or None.
        is_running: Whether it has been taken from the queue.
        is_gone: Whether it was dropped after its deadline.
    """

    __slots__ = (
        "came",
        "deadline",
        "is_gone",
        "is_running",
        "length",
        "number",
        "passed",
        "row",
        "shared",
        "text",
        "turn",
    )

    def __init__(
        self, row: AdapterRow, text: Hashable, *, deadline: float, came: float, shared: Hashable = None
    ) -> None:
        self.shared = shared
        self.row, self.text, self.length = row, hash(text), max(len(row.ids), 1)
        self.deadline, self.came = deadline, came
        self.turn, self.number = 0.0, 0
        self.passed: float | None = None
        self.is_running = self.is_gone = False


PendingRowT = TypeVar("PendingRowT", bound=PendingRow)


class FairQueue(Generic[PendingRowT]):
    """A queue of rows, ordered by start-time fair queueing. Not thread-safe.

    Args:
        most_rows: Maximum rows per batch.
        most_tokens: Maximum tokens per batch, including padding. A single longer row is still
            taken, alone.
        max_age: Time after which a row that was passed over leads a batch regardless of its length,
            in seconds.

    Example:
        >>> queue = FairQueue(most_rows=32, most_tokens=4096, max_age=0.1)
        >>> queue.add(pending, ("billing", "intents"))
        >>> queue.take(time.monotonic())
        [pending]
    """

    def __init__(self, *, most_rows: int, most_tokens: int, max_age: float) -> None:
        self._most_rows, self._most_tokens, self._max_age = most_rows, most_tokens, max_age
        # Sorted by turn, then by arrival number, which is unique.
        self._order: list[tuple[float, int, PendingRowT]] = []
        self._numbers = count()
        # The earliest turn of the next row of each flow, and the current turn.
        self._next: dict[Hashable, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, pending: PendingRowT, flow: Hashable) -> None:
        """Adds a row.

        Args:
            pending: The row.
            flow: Flow of the row. All flows get equal shares.
        """
        pending.turn = max(self._now, self._next.get(flow, 0.0))
        pending.number = next(self._numbers)
        self._next[flow] = pending.turn + pending.length
        insort(self._order, (pending.turn, pending.number, pending))

    def remove(self, pending: PendingRowT) -> None:
        """Removes a row.

        Args:
            pending: A row in the queue.
        """
        del self._order[bisect_left(self._order, (pending.turn, pending.number))]

    def take(self, now: float) -> list[PendingRowT]:
        """Removes and returns the rows of the next batch. Drops rows whose deadline has passed.

        Args:
            now: Current time, on the clock of the deadlines.

        Returns:
            Rows of similar length, shortest first. Empty only if the queue is empty.
        """
        window = self._in_reach(now)
        if not window:
            return []
        self._now = window[0].turn
        leader = next(
            (one for one in window if one.passed is not None and now - one.passed >= self._max_age), window[0]
        )
        ordered = _by_length([one for one in window if one.shared == leader.shared], leader)
        first, after = self._run_around(ordered.index(leader), [one.length for one in ordered])
        taken = ordered[first:after]
        for one in taken:
            one.is_running = True
        reached = len(window)
        left = [item for item in self._order[:reached] if not item[2].is_running]
        for _, _, one in left:
            one.passed = now if one.passed is None else one.passed
        self._order[:reached] = left
        self._forget()
        return taken

    def _in_reach(self, now: float) -> list[PendingRowT]:
        """Returns the next rows in order, after dropping expired ones."""
        reach = _REACH * self._most_rows
        while late := [one for _, _, one in self._order[:reach] if one.deadline <= now]:
            for one in late:
                one.is_gone = True
                self.remove(one)
        return [one for _, _, one in self._order[:reach]]

    def _run_around(self, leader: int, lengths: list[int]) -> tuple[int, int]:
        """Returns the largest group of rows around a leader, with the least padding among equals.

        Args:
            leader: Index of the leader in `lengths`.
            lengths: Lengths in tokens, sorted.

        Returns:
            Start and stop index of the group.
        """
        sums = [0, *accumulate(lengths)]
        best, fewest, start = (leader, leader + 1), 0, max(0, leader + 1 - self._most_rows)
        for after in range(leader + 1, min(len(lengths), leader + self._most_rows) + 1):
            longest = lengths[after - 1]
            shortest = longest * (1 - _SHARE) - _TOKENS
            fits = min(self._most_rows, self._most_tokens // longest)
            start = max(start, after - fits, bisect_left(lengths, shortest, 0, leader + 1))
            if start > leader:
                break
            padding = (after - start) * longest - (sums[after] - sums[start])
            # Ties go to the later group, whose rows arrived soon after the leader.
            if (after - start, -padding) >= (best[1] - best[0], -fewest):
                best, fewest = (start, after), padding
        return best

    def _forget(self) -> None:
        """Drops the state of flows whose next row would start immediately."""
        if not self._order:
            self._next.clear()
            self._now = 0.0
        elif len(self._next) > _MOST_FLOWS:
            self._next = {flow: turn for flow, turn in self._next.items() if turn > self._now}


def _by_length(window: Sequence[PendingRowT], leader: PendingRowT) -> list[PendingRowT]:
    """Sorts rows by length; among equal lengths, earlier turns are closer to the leader."""
    # Rows with the same tokens stay adjacent, since the base model reads them only once.
    queue: dict[int, int] = {}
    for place, one in enumerate(window):
        queue.setdefault(one.text, place)

    def key(one: PendingRowT) -> tuple[int, int]:
        turn = queue[one.text]
        return one.length, turn if one.length >= leader.length else -turn

    return sorted(window, key=key)
