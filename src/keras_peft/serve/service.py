"""Predictions of many adapters, independent of the protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from keras_peft.runtime.outputs import of_texts
from keras_peft.serve.adapters import Adapters
from keras_peft.serve.batcher import Batcher
from keras_peft.serve.explaining import explain
from keras_peft.serve.failures import Failure
from keras_peft.serve.loaded_adapter import AdapterRow, LoadedAdapter
from keras_peft.serve.reading import check, in_time, quickly, tokenized
from keras_peft.serve.result import AdapterResult, RequestResult
from keras_peft.serve.statistics import Statistics
from keras_peft.serve.token_view import TokenView

if TYPE_CHECKING:
    from keras_peft.explanation import Explanation
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.inputs.input import Text
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.serve.batcher import Admission
    from keras_peft.serve.engines._engine import Engine
    from keras_peft.serve.keys import Key
    from keras_peft.serve.observer import Observer
    from keras_peft.serve.repository import Repository
    from keras_peft.serve.request import RowOutputs
    from keras_peft.serve.settings import ServeSettings
    from keras_peft.serve.workers import Timing


class Service:
    """Answers prediction requests with many adapters; independent of HTTP.

    Args:
        adapters: The adapters.
        batcher: Runs the rows of the adapters.
        engine: Engine that runs the base model.
        settings: Settings of the server.
        observer: Receives events about tokenization and responses.

    Attributes:
        statistics: Counts and times of the requests of each adapter.

    Example:
        >>> service = Service.create(Repository([Path("bundles")]), engine, ServeSettings(), Observer())
        >>> await service.start()
        >>> answers = await service.predict(["news", "mood"], ["Who won?"])
        >>> answers["news"].predictions[0].label
        'sport'
        >>> await service.stop()
    """

    def __init__(
        self,
        adapters: Adapters,
        batcher: Batcher,
        engine: Engine,
        settings: ServeSettings,
        observer: Observer,
    ) -> None:
        self.adapters, self.batcher, self.engine, self.settings = adapters, batcher, engine, settings
        self.statistics = Statistics()
        self._observer = observer
        self._watching: asyncio.Task[None] | None = None
        self._tokens = TokenView(engine.base.tokenizer)

    @classmethod
    def create(
        cls,
        repository: Repository,
        engine: Engine,
        settings: ServeSettings,
        observer: Observer,
        *,
        timing: Timing | None = None,
    ) -> Service:
        """Creates a service for the bundles of a repository.

        Args:
            repository: Repository of the bundles.
            engine: Engine that runs the base model.
            settings: Settings of the server.
            observer: Receives the events of the server.
            timing: Wait times of the batcher. Defaults to `Timing()`.

        Returns:
            A service that is not started yet.
        """
        batcher = Batcher(engine, settings, observer, timing=timing)
        adapters = Adapters(repository, engine, settings, observer, batcher.run_in_this_thread)
        return cls(adapters, batcher, engine, settings, observer)

    async def start(self, *, at_once: bool = False) -> None:
        """Starts the workers, loads the adapters and starts watching the bundles.

        Args:
            at_once: Whether to return without waiting for many adapters; see `Adapters.start`.

        Raises:
            OSError: If a folder of bundles cannot be read.
        """
        self.batcher.start()
        await self.adapters.start(at_once=at_once)
        self._watching = asyncio.create_task(self.adapters.watch())

    async def stop(self, timeout: float | None = None) -> None:
        """Stops accepting requests, finishes pending ones and ends the workers.

        Args:
            timeout: Maximum time to finish pending requests, in seconds. Defaults to
                `settings.drain_timeout_s`.
        """
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self.batcher.stop(self.settings.drain_timeout_s if timeout is None else timeout)
        self.adapters.close()

    async def predict(
        self,
        names: Sequence[str],
        texts: Sequence[Any],
        *,
        key: Key | None = None,
        deadline: float | None = None,
        truncate: bool = True,
    ) -> RequestResult:
        """Predicts texts with one or more adapters.

        Args:
            names: Names of the adapters. Duplicates are ignored.
            texts: Texts to predict. For adapters that read pairs, lists of two texts; for adapters
                that tag words, texts or lists of words.
            key: API key of the request.
            deadline: Time at which to give up, on the clock of `time.monotonic`. Defaults to
                `settings.deadline_ms` from now.
            truncate: Whether to truncate texts that are too long for an adapter. If False, they are
                refused.

        Returns:
            The predictions of each adapter, with token counts and timings.

        Raises:
            Malformed: If there are no texts or no adapters.
            TooLarge: If there are too many texts.
            Invalid: If a text is too long, or is not a valid input for an adapter.
            Failure: If an adapter is not available, the queue is full or the deadline passes; see
                `Adapters.get` and `Batcher.submit`.
        """
        names = list(dict.fromkeys(names))
        characters = check(texts, self.settings, adapters=len(names))
        deadline = self._deadline(deadline)
        with ExitStack() as stack:
            adapters = [await self._use(name, stack, deadline) for name in names]
            with (
                self._telling(names, len(texts)),
                self.statistics.counting(adapters, len(texts)) as answered,
                self.batcher.admit(len(texts) * len(names), deadline=deadline) as admission,
            ):
                return answered(
                    await self._answers(adapters, texts, characters, key, deadline, truncate, admission)
                )

    async def explain(
        self,
        name: str,
        text: Any,
        *,
        label: str | None = None,
        key: Key | None = None,
        deadline: float | None = None,
    ) -> Explanation:
        """Explains which words of a text led to the prediction of an adapter.

        See `keras_peft.explanation` for the method.

        Args:
            name: Name of the adapter.
            text: A text, or a pair of texts as a list.
            label: Label to explain. Defaults to the most probable label.
            key: API key of the request.
            deadline: Time at which to give up, on the clock of `time.monotonic`. Defaults to
                `settings.deadline_ms` from now.

        Returns:
            The words of the text with their weights.

        Raises:
            Invalid: If the adapter returns no probabilities, does not have the label or cannot read
                the text.
            Failure: As in `predict`.
        """
        characters = check([text], self.settings)
        deadline = self._deadline(deadline)
        with ExitStack() as stack:
            adapter = await self._use(name, stack, deadline)
            stack.enter_context(self._telling([name], 1))
            admission = stack.enter_context(self.batcher.admit(1, deadline=deadline))

            async def run(rows: Sequence[AdapterRow]) -> RowOutputs:
                return await self._run(rows, key, deadline, admission)

            return await explain(
                adapter,
                text,
                label,
                characters=characters,
                deadline=deadline,
                run=run,
                settings=self.settings,
                observer=self._observer,
            )

    async def tokenize(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Tokenizes texts without truncation.

        Args:
            texts: Texts to tokenize.

        Returns:
            The tokens of each text, as dictionaries with the keys `id`, `text`, `special`, `start`
            and `stop`. `start` and `stop` are character offsets, `stop` exclusive; both are None
            for special tokens.

        Raises:
            Malformed: If there are no texts.
            TooLarge: If there are too many texts.
            Invalid: If a text is too long or contains an unpaired surrogate.
        """
        characters = check(texts, self.settings)
        return await quickly(
            lambda: self._tokens.of(texts),
            characters=characters * self._tokens.effort,
            deadline=self._deadline(None),
        )

    @contextmanager
    def _telling(self, names: Sequence[str], texts: int) -> Iterator[None]:
        """Reports to the observer whether the adapters answered within the context."""
        try:
            yield
        except Failure as failure:
            for name in names:
                self._observer.adapter_answered(name, texts=texts, kind=failure.kind)
            raise
        for name in names:
            self._observer.adapter_answered(name, texts=texts)

    def _deadline(self, deadline: float | None) -> float:
        return time.monotonic() + self.settings.deadline_ms / 1000 if deadline is None else deadline

    async def _use(self, name: str, stack: ExitStack, deadline: float) -> LoadedAdapter:
        """Returns an adapter and keeps it in use until the stack closes."""
        loaded = self.adapters.loaded(name)
        if loaded is None:
            loaded = await in_time(self.adapters.get(name), deadline)
        stack.enter_context(self.adapters.using(loaded))
        return loaded

    async def _answers(
        self,
        adapters: Sequence[LoadedAdapter],
        texts: Sequence[Any],
        characters: int,
        key: Key | None,
        deadline: float,
        truncate: bool,
        admission: Admission,
    ) -> RequestResult:
        start = time.monotonic()
        # Adapters with the same tokenizer and input format share the texts and tokens.
        by_form: dict[tuple[Encoder, int], tuple[list[Text], Tokens]] = {}
        readings = []
        for one in adapters:
            form = one.tokenizer, one.bundle.texts_per_row
            if form not in by_form:
                by_form[form] = await tokenized(
                    one, texts, characters=characters, deadline=deadline, truncate=truncate
                )
            readings.append(by_form[form])
        every = [tokens for _, tokens in by_form.values()]
        read = sum(len(ids) for each in every for ids in each.ids)
        cut = sum(each.truncated for each in every)
        tokenizing = time.monotonic() - start
        self._observer.tokenized(texts=len(texts), tokens=read, cut=cut, seconds=tokenizing)

        rows = [
            AdapterRow(ids, one)
            for one, (_, tokens) in zip(adapters, readings, strict=True)
            for ids in tokens.ids
        ]
        ran = await self._run(rows, key, deadline, admission)
        by_name, at = {}, 0
        for one, (own, tokens) in zip(adapters, readings, strict=True):
            outputs = of_texts(enumerate(ran.outputs[at : at + len(tokens)]), tokens)
            at += len(tokens)
            by_name[one.name] = AdapterResult(
                one.task, one.generation, one.task.predictions(outputs, own), outputs
            )
        return RequestResult(by_name, read, cut, tokenizing, ran.queued, ran.computed)

    async def _run(
        self, rows: Sequence[AdapterRow], key: Key | None, deadline: float, admission: Admission
    ) -> RowOutputs:
        return await self.batcher.submit(
            rows, deadline=deadline, key="" if key is None else key.name, admission=admission
        )
