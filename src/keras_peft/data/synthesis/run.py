"""Sends concurrent requests for the missing rows and keeps the usable ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from random import Random

from anyio.from_thread import BlockingPortal, start_blocking_portal

from keras_peft.data.synthesis.completion import ChatCompletion
from keras_peft.data.synthesis.endpoint import Endpoint
from keras_peft.data.synthesis.generated_rows import candidates_in, schema_of
from keras_peft.data.synthesis.partial_output import PartialOutput, Tally
from keras_peft.data.synthesis.row_collector import RowCollector
from keras_peft.errors import EndpointError, listed
from keras_peft.progress import Progress

# Number of earlier texts shown in a request.
SEEN_TEXTS = 6
# After this many consecutive responses without a usable row, more would only cost money.
_MOST_FRUITLESS = 10


class GenerationRun:
    """Sends requests to an endpoint until there are enough rows.

    Args:
        endpoint: Endpoint that receives the requests.
        rows: Collector of the accepted and the missing rows.
        partial: File that keeps the accepted rows as they arrive.
        text_of: Function that renders a request from the number of rows per label, the number of the
            request, and texts not to be repeated.
        seed: Random seed for the variation of the requests.
        batch: Number of rows per request.
        concurrency: Maximum number of concurrent requests.
        most: Maximum number of requests.
        progress: Object that is notified of new rows.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        rows: RowCollector,
        partial: PartialOutput,
        text_of: Callable[[Mapping[str, int], int, Sequence[str]], str],
        *,
        seed: int,
        batch: int,
        concurrency: int,
        most: int,
        progress: Progress,
    ) -> None:
        self._endpoint = endpoint
        self._rows = rows
        self._partial = partial
        self._text_of = text_of
        self._schema = schema_of(rows.labels)
        self._seed = seed
        self._batch = batch
        self._concurrency = concurrency
        self._most = most
        self._progress = progress
        self._earlier = partial.tally.requests
        self._sent = self._fruitless = 0
        self._under_way: dict[Future[ChatCompletion], dict[str, int]] = {}

    def ask_until_enough(self) -> None:
        """Sends requests until no row is missing.

        Raises:
            EndpointError: If the endpoint rejects a request, keeps failing, or returns too few usable
                rows.
        """
        # The requests run in a thread of their own: signals, which arrive here, only interrupt the waiting,
        # and a notebook's event loop does not interfere.
        with (
            self._partial.opened(),
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(self._endpoint),
        ):
            try:
                while self._rows.missing:
                    if self._fruitless < _MOST_FRUITLESS:
                        self._ask(portal)
                    if self._fruitless >= _MOST_FRUITLESS or not self._under_way:
                        raise self._too_little()
                    self._take_what_came()
            finally:
                for future in self._under_way:
                    future.cancel()

    def _ask(self, portal: BlockingPortal) -> None:
        """Sends as many requests as the concurrency allows."""
        at_once = self._concurrency if self._endpoint.is_known else 1
        while len(self._under_way) < at_once and self._sent < self._most:
            share = self._rows.next_share(self._batch)
            if not share:
                break
            number = self._earlier + self._sent
            seen = self._rows.some(SEEN_TEXTS, Random(f"{self._seed} {number}"))
            text = self._text_of(share, number, seen)
            future = portal.start_task_soon(self._endpoint.ask, text, self._schema, number)
            self._under_way[future] = share
            self._rows.ask(share)
            self._sent += 1

    def _take_what_came(self) -> None:
        """Waits for at least one response and keeps the usable rows."""
        answered, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
        # Successful responses come first, so that their rows are kept before a failure is raised.
        for future in sorted(answered, key=lambda one: one.exception() is not None):
            share = self._under_way.pop(future)
            self._rows.answered(share)
            accepted = self._take(future.result(), sum(share.values()))
            self._fruitless = 0 if accepted else self._fruitless + 1
            self._progress.generated(rows=accepted)

    def _take(self, answer: ChatCompletion, asked: int) -> int:
        """Keeps the usable rows of a response and returns their number."""
        candidates = candidates_in(answer.content)
        accepted, rejected = self._rows.accept(candidates)
        fault = answer.fault
        if not fault and not candidates:
            fault = "no rows in JSON"
        elif not fault and len(candidates) != asked:
            fault = f"{'fewer' if len(candidates) < asked else 'more'} rows than asked for"
        without_usage = answer.prompt_tokens is None or answer.completion_tokens is None
        self._partial.add(
            accepted,
            Tally(
                requests=1,
                retries=answer.retries,
                prompt_tokens=answer.prompt_tokens or 0,
                completion_tokens=answer.completion_tokens or 0,
                without_usage=int(without_usage),
                rejected=rejected,
                bad_answers=Counter([fault] if fault else []),
            ),
        )
        return len(accepted)

    def _too_little(self) -> EndpointError:
        tally = self._partial.tally
        reasons = (tally.rejected + tally.bad_answers).most_common()
        why = f" Rejected: {listed(f'{reason} ({count})' for reason, count in reasons)}." if reasons else ""
        how = (
            f"{self._fruitless} responses in a row had no usable row"
            if self._fruitless >= _MOST_FRUITLESS
            else f"`max_requests` allows only {self._sent} requests"
        )
        wanted = len(self._rows) + self._rows.missing
        return EndpointError(
            f"{self._endpoint.model} returned {len(self._rows):,} of {wanted:,} rows, and {how}.{why} Subtopics, a "
            "custom `prompt`, a smaller `batch`, more `max_tokens` or a larger model may help."
        )
