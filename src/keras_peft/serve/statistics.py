"""Counts and times of the requests that each generation of an adapter has answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from keras_peft.serve.failures import Failure

if TYPE_CHECKING:
    from keras_peft.serve.loaded_adapter import LoadedAdapter
    from keras_peft.serve.result import RequestResult


@dataclass(slots=True)
class Total:
    """Number of requests and their time in total, in seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Adds a request.

        Args:
            seconds: Time of the request.
        """
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class AdapterStatistics:
    """Counts and times of the requests of one generation. Explanations are not counted.

    If a request names several adapters, its times count for each of them.

    Attributes:
        texts: Number of predicted texts.
        answered: Requests that were answered.
        failed: Requests that failed after the adapter was loaded.
        queued: Time in the queue, of answered requests.
        tokenized: Tokenization time, of answered requests.
        computed: Computation time, of answered requests.
        last_answer: Time of the last answer, in seconds since 1970; None if there is none.
    """

    texts: int = 0
    answered: Total = field(default_factory=Total)
    failed: Total = field(default_factory=Total)
    queued: Total = field(default_factory=Total)
    tokenized: Total = field(default_factory=Total)
    computed: Total = field(default_factory=Total)
    last_answer: float | None = None


class Statistics:
    """Statistics of the loaded adapters. Those of a generation end with it.

    An instance belongs to one event loop.

    Example:
        >>> with statistics.counting([news], texts=1) as answered:
        ...     answered(await predict(news, ["Who won?"]))
        >>> statistics.of(news).answered
        Total(count=1, seconds=0.01)
    """

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[LoadedAdapter, AdapterStatistics] = WeakKeyDictionary()

    def of(self, adapter: LoadedAdapter) -> AdapterStatistics:
        """Returns the statistics of an adapter.

        Args:
            adapter: The adapter.
        """
        return self._of.setdefault(adapter, AdapterStatistics())

    @contextmanager
    def counting(
        self, adapters: Sequence[LoadedAdapter], texts: int
    ) -> Iterator[Callable[[RequestResult], RequestResult]]:
        """Counts a request, and measures its time from here on. A `Failure` counts as failed.

        Args:
            adapters: Adapters that the request needs.
            texts: Number of texts in the request.

        Yields:
            A function to call with the result of the request, which it returns.
        """
        start = time.monotonic()

        def answered(result: RequestResult) -> RequestResult:
            for one in map(self.of, adapters):
                one.texts += texts
                one.last_answer = time.time()
                one.answered.add(time.monotonic() - start)
                one.queued.add(result.queued)
                one.tokenized.add(result.tokenizing)
                one.computed.add(result.computed)
            return result

        try:
            yield answered
        except Failure:
            for one in map(self.of, adapters):
                one.failed.add(time.monotonic() - start)
            raise
