"""Texts to predictions of any adapters, for whatever protocol."""

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
    """Answers with the adapters that there are; knows nothing of HTTP.

    Args:
        adapters: The adapters.
        batcher: Runs their rows.
        engine: The base.
        settings: The limits.
        observer: Is told of what is tokenised and answered.

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
        """Makes a service of the bundles that lie somewhere."""
        batcher = Batcher(engine, settings, observer, timing=timing)
        adapters = Adapters(repository, engine, settings, observer, batcher.run_beside)
        return cls(adapters, batcher, engine, settings, observer)

    async def start(self) -> None:
        """Starts the workers, loads the adapters and begins to watch their bundles."""
        self.batcher.start()
        await self.adapters.start()
        self._watching = asyncio.create_task(self.adapters.watch())

    async def stop(self, timeout: float | None = None) -> None:
        """Takes no new requests, answers those that are there, and ends the workers.

        Args:
            timeout: How many seconds that may take; `drain_timeout_s` by default.
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
        """Predicts texts with one adapter or with several.

        Args:
            names: The adapters.
            texts: Texts; for adapters that read two together pairs of them, for those that read
                words texts or lists of words.
            key: Whose request it is.
            deadline: When to give up, on the clock of `time.monotonic`; by default when
                `deadline_ms` have passed.
            truncate: Whether texts that are too long for an adapter are cut, or refused.

        Raises:
            Malformed: If there are no texts.
            TooLarge: If there are too many.
            Invalid: If one cannot be read by an adapter.
            Failure: If an adapter cannot be had, the queue is full, or it takes too long; see
                `Adapters.get` and `Batcher.submit`.
        """
        names = list(dict.fromkeys(names))
        characters = check(texts, self.settings, adapters=len(names))
        deadline = self._deadline(deadline)
        with ExitStack() as stack:
            adapters = [await self._use(name, stack, deadline) for name in names]
            with (
                self._telling(names, len(texts)),
                self.batcher.admit(len(texts) * len(names), deadline=deadline) as admission,
            ):
                return await self._answers(adapters, texts, characters, key, deadline, truncate, admission)

    async def explain(
        self,
        name: str,
        text: Any,
        *,
        label: str | None = None,
        key: Key | None = None,
        deadline: float | None = None,
    ) -> Explanation:
        """Tells which words of a text carried an adapter's decision; see `explanation.explain`.

        Args:
            name: The adapter.
            text: A text, or a pair of them.
            label: The label to explain; the most probable by default.
            key: Whose request it is.
            deadline: As of `predict`.

        Raises:
            Invalid: If the adapter gives no probabilities, does not know the label, or cannot
                read the text.
            Failure: As of `predict`.
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
        """Shows the tokens of texts, none of them cut off.

        Returns:
            For each text its tokens: `id`, `text`, whether it is `special`, and the places of
            its first character and after its last, `start` and `stop`, None for special ones.

        Raises:
            Malformed: If there are no texts.
            TooLarge: If there are too many.
            Invalid: If one is too long, or holds half a character.
        """
        characters = check(texts, self.settings)
        return await quickly(
            lambda: self._tokens.of(texts), characters=characters, deadline=self._deadline(None)
        )

    # ---- On the way

    @contextmanager
    def _telling(self, names: Sequence[str], texts: int) -> Iterator[None]:
        """Tells the observer whether adapters have answered what is done in the context."""
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
        """Finds an adapter, and holds it until the stack ends."""
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
        # Adapters that read alike share what is read, and its tokens.
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
