"""The run: asks for the rows that are missing, several requests at once, and keeps what can be used."""

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

# How many of the texts that are there already a request shows.
SEEN_TEXTS = 6
# After so many answers in a row without one row of use, more of them would only cost.
_MOST_FRUITLESS = 10


class GenerationRun:
    """Asks an endpoint until there are enough rows.

    Args:
        endpoint: Whom to ask.
        rows: The rows that are there, and those that are missing.
        partial: Where to keep what comes.
        text_of: Makes the text of a request, of the rows of each label that it asks for, its
            number, and texts not to be repeated.
        seed: Decides the variety of the requests.
        batch: Rows to ask for in a request.
        concurrency: Requests under way at once.
        most: Most requests.
        progress: Told of the rows.
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
        """Asks until no row is missing.

        Raises:
            EndpointError: If the endpoint refuses, keeps failing, or gives too little of use.
        """
        # The requests live in a thread of their own: here, where signals arrive, only waiting is interrupted, and
        # a notebook's event loop is not in the way.
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
        """Sends as many requests as may be under way at once."""
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
        """Waits for an answer or more, and keeps what can be used of them."""
        answered, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
        # What did come is kept before anything that did not is told.
        for future in sorted(answered, key=lambda one: one.exception() is not None):
            share = self._under_way.pop(future)
            self._rows.answered(share)
            accepted = self._take(future.result(), sum(share.values()))
            self._fruitless = 0 if accepted else self._fruitless + 1
            self._progress.generated(rows=accepted)

    def _take(self, answer: ChatCompletion, asked: int) -> int:
        """Keeps what can be used of an answer, and returns how many rows that is."""
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
        why = (
            f" Turned down: {listed(f'{reason} ({count})' for reason, count in reasons)}." if reasons else ""
        )
        how = (
            f"{self._fruitless} answers in a row held no row of use"
            if self._fruitless >= _MOST_FRUITLESS
            else f"{self._sent} requests are the most that `max_requests` allows"
        )
        wanted = len(self._rows) + self._rows.missing
        return EndpointError(
            f"{self._endpoint.model} gave {len(self._rows):,} of {wanted:,} rows, and {how}.{why} Subtopics, a "
            "`prompt` of your own, a smaller `batch` or more `max_tokens` may help, or a larger model from the "
            "beginning."
        )
