"""Whose turn it is: the rows that wait, in a fair order, and which of them run together.

What one key asks of one adapter is a flow. While several flows have rows that wait, each of
them gets as many tokens as the others, so that a flood in one does not hold up the rest. It
is start-time fair queueing: Goyal, Vin and Cheng 1996, "StartupEvents-time Fair Queuing: A Scheduling
Algorithm for Integrated Services Packet Switching Networks". One flow alone is first come,
first served.

The row whose turn it is leads a batch. Of the next few rows those go with it that share the
blocks below their adapters with it and are about as long, so that little is computed for
padding.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Sequence
from itertools import accumulate, count
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from keras_peft.serve.loaded_adapter import AdapterRow

# So many batches' rows are looked through for those whose lengths suit.
_REACH = 4
# Rows run together if the shortest lacks no more than this share of the longest and so many tokens.
_SHARE, _TOKENS = 0.125, 4
# Flows whose turns are remembered before those that have had theirs are forgotten.
_MOST_FLOWS = 1024


class PendingRow:
    """A row that is to be computed once, whoever waits for it.

    Args:
        row: The row.
        text: Something that is the same for rows of the same tokens.
        deadline: When nobody waits for it any more, on the clock of `time.monotonic`.
        came: When it came, on the same clock.
        shared: What the rows have in common that are worth running together.

    Attributes:
        length: Its tokens.
        turn: Its place in the order, in tokens.
        passed: Since when it has been passed over, or None.
        is_running: Whether it has been taken.
        is_gone: Whether it was left out since its deadline had passed.
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
    """The rows that wait.

    It is for one thread at a time.

    Args:
        most_rows: Most rows that are taken together.
        most_tokens: Most tokens that are taken together, padding included; one row alone may
            have more.
        max_age: After how many seconds of being passed over a row leads, whatever its length.

    Example:
        >>> queue = FairQueue(most_rows=32, most_tokens=4096, max_age=0.1)
        >>> queue.add(pending, ("billing", "intents"))
        >>> queue.take(time.monotonic())
        [entry]
    """

    def __init__(self, *, most_rows: int, most_tokens: int, max_age: float) -> None:
        self._most_rows, self._most_tokens, self._max_age = most_rows, most_tokens, max_age
        # Sorted; the numbers are the order in which rows came, and no two are the same.
        self._order: list[tuple[float, int, PendingRowT]] = []
        self._numbers = count()
        # The turn that a flow's next row has if it comes now, and the turn that it is.
        self._next: dict[Hashable, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, pending: PendingRowT, flow: Hashable) -> None:
        """Lets a row wait for its turn.

        Args:
            pending: The row.
            flow: What shares one part of the server.
        """
        pending.turn = max(self._now, self._next.get(flow, 0.0))
        pending.number = next(self._numbers)
        self._next[flow] = pending.turn + pending.length
        insort(self._order, (pending.turn, pending.number, pending))

    def remove(self, pending: PendingRowT) -> None:
        """Takes a row that waits away."""
        del self._order[bisect_left(self._order, (pending.turn, pending.number))]

    def take(self, now: float) -> list[PendingRowT]:
        """Takes the rows that run next; those whose deadlines have passed are left out.

        Args:
            now: The time, on the clock of the entries.

        Returns:
            Rows of like lengths, the shortest first: at least one where any are left.
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
        """Returns the next few rows in their order, when those that are too late have been left out."""
        reach = _REACH * self._most_rows
        while late := [one for _, _, one in self._order[:reach] if one.deadline <= now]:
            for one in late:
                one.is_gone = True
                self.remove(one)
        return [one for _, _, one in self._order[:reach]]

    def _run_around(self, leader: int, lengths: list[int]) -> tuple[int, int]:
        """Finds which rows run with a leader: the most rows, and of as many those with the least padding.

        Args:
            leader: Its place among the lengths.
            lengths: Lengths in tokens, sorted.

        Returns:
            The first of them, and the place after the last.
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
            # Where two are as good it is the later one, with rows that came soon after the leader.
            if (after - start, -padding) >= (best[1] - best[0], -fewest):
                best, fewest = (start, after), padding
        return best

    def _forget(self) -> None:
        """Forgets flows whose next row would come at once."""
        if not self._order:
            self._next.clear()
            self._now = 0.0
        elif len(self._next) > _MOST_FLOWS:
            self._next = {flow: turn for flow, turn in self._next.items() if turn > self._now}


def _by_length(window: Sequence[PendingRowT], leader: PendingRowT) -> list[PendingRowT]:
    """Sorts rows by their lengths; of one length those whose turn is sooner are nearer to the leader."""
    # Rows of one text stand together, since the base computes it once.
    queue: dict[int, int] = {}
    for place, one in enumerate(window):
        queue.setdefault(one.text, place)

    def key(one: PendingRowT) -> tuple[int, int]:
        turn = queue[one.text]
        return one.length, turn if one.length >= leader.length else -turn

    return sorted(window, key=key)
