"""Texts to predictions of any adapters, for whatever protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import tokenizers

from keras_peft.errors import OptionError, listed
from keras_peft.explanation import Explanation, Occlusion, check_explainable
from keras_peft.inputs.strings import is_unicode
from keras_peft.runtime.outputs import of_texts
from keras_peft.serve.adapters import Adapters
from keras_peft.serve.batcher import LATE, Batcher
from keras_peft.serve.failures import Failure, Invalid, Malformed, TimedOut, TooLarge
from keras_peft.serve.loaded import Loaded, Row

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.inputs import Encoder, Text
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.serve.batcher import Admission, Ran
    from keras_peft.serve.engines._engine import Engine
    from keras_peft.serve.keys import Key
    from keras_peft.serve.observer import Observer
    from keras_peft.serve.repository import Repository
    from keras_peft.serve.settings import ServeSettings
    from keras_peft.tasks import Prediction, Task

# Texts of more characters than this together are tokenised in a thread: it takes longer than
# others should wait for the loop.
_QUICK = 4000
# What explains one text takes no more than this part of the queue at a time.
_PART = 4
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one adapter answers.

    Attributes:
        task: What it tells.
        generation: The generation that answered.
        predictions: What it says of each text.
        outputs: For each text what its head gave, float32: (outputs,), or (words, outputs).
    """

    task: Task
    generation: int
    predictions: Sequence[Prediction]
    outputs: Sequence[np.ndarray]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a request is answered, `answers["name"]` by one adapter.

    Attributes:
        by_name: The answers by the adapters' names, in the order in which they were asked.
        tokens: Tokens that were read, once for all adapters with the same tokenizer.
        cut: Texts of which the end was not read, counted in the same way.
        tokenizing: How long the texts took to become tokens, in seconds.
        queued: How long their rows waited, in seconds.
        computed: How long they were computed, in seconds.
    """

    by_name: dict[str, Answer]
    tokens: int
    cut: int
    tokenizing: float
    queued: float
    computed: float

    def __getitem__(self, name: str) -> Answer:
        return self.by_name[name]


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
        # It shows all tokens, also those that an adapter does not read.
        self._tokenizer = tokenizers.Tokenizer.from_str(engine.base.tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @classmethod
    def create(
        cls, repository: Repository, engine: Engine, settings: ServeSettings, observer: Observer
    ) -> Service:
        """Makes a service of the bundles that lie somewhere."""
        batcher = Batcher(engine.run, settings, observer, shared=engine.group)
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
    ) -> Answers:
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
        characters = self._check(len(names), texts)
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
        characters = self._check(1, [text])
        deadline = self._deadline(deadline)
        with ExitStack() as stack:
            adapter = await self._use(name, stack, deadline)
            stack.enter_context(self._telling([name], 1))
            admission = stack.enter_context(self.batcher.admit(1, deadline=deadline))
            if label is not None and label not in adapter.task.labels:
                raise Invalid(
                    f"`label`: the adapter {name!r} does not know it; it knows "
                    f"{listed(adapter.task.labels, most=40)}."
                )
            try:
                check_explainable(adapter.task)
            except OptionError as error:
                raise Invalid(str(error)) from None
            (read,) = _read([text], adapter)
            start = time.monotonic()
            occlusion = await _quickly(
                lambda: Occlusion.of(read, adapter.tokenizer.seen(read)), characters, deadline
            )
            texts = occlusion.rows
            characters = sum(map(_size, texts))
            if characters > self.settings.max_body_bytes:
                raise Invalid(
                    f"The text is read once without each of its parts, which makes {characters} characters; expected "
                    f"at most {self.settings.max_body_bytes}. Explain a part of it."
                )
            tokens = await _quickly(lambda: adapter.tokenizer(texts), characters, deadline)
            self._observer.tokenized(
                texts=1,
                tokens=sum(map(len, tokens.ids)),
                cut=int(tokens.truncated > 0),
                seconds=time.monotonic() - start,
            )
            outputs: list[np.ndarray] = []
            most = max(1, self.settings.max_queue // _PART)
            for first in range(0, len(tokens), most):
                rows = [Row(ids, adapter) for ids in tokens.ids[first : first + most]]
                outputs += (await self._run(rows, key, deadline, admission)).outputs
            probabilities = adapter.task.probabilities(of_texts(enumerate(outputs), tokens))
            return occlusion.explanation(adapter.task, probabilities, label)

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
        characters = self._check(1, texts)
        if bad := [place for place, text in enumerate(texts, 1) if not is_unicode(text)]:
            raise Invalid(f"Texts {listed(bad)} (counted from 1) hold half a character; expected whole ones.")
        encodings = await _quickly(
            lambda: self._tokenizer.encode_batch(list(texts)), characters, self._deadline(None)
        )
        return [_shown(encoding, text) for encoding, text in zip(encodings, texts, strict=True)]

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

    def _check(self, adapters: int, texts: Sequence[Any]) -> int:
        """Checks how many and how long the texts are.

        Returns:
            How many characters they have together.
        """
        if not texts or not adapters:
            raise Malformed("There is nothing to read; send at least one text, and name an adapter.")
        if (count := len(texts) * adapters) > (most := self.settings.max_texts):
            by = f" for {adapters} adapters" if adapters > 1 else ""
            raise TooLarge(
                f"The request has {len(texts)} texts{by}; expected at most {most}"
                f"{f' in all, got {count}' if adapters > 1 else ''}. Part it into several requests."
            )
        sizes = [_size(text) for text in texts]
        if long := [place for place, size in enumerate(sizes, 1) if size > self.settings.max_text_chars]:
            raise Invalid(
                f"Texts {listed(long)} (counted from 1) have more than {self.settings.max_text_chars} characters; "
                "shorten them."
            )
        return sum(sizes)

    async def _use(self, name: str, stack: ExitStack, deadline: float) -> Loaded:
        """Finds an adapter, and holds it until the stack ends."""
        loaded = self.adapters.loaded(name)
        if loaded is None:
            loaded = await _in_time(self.adapters.get(name), deadline)
        stack.enter_context(self.adapters.using(loaded))
        return loaded

    async def _answers(
        self,
        adapters: Sequence[Loaded],
        texts: Sequence[Any],
        characters: int,
        key: Key | None,
        deadline: float,
        truncate: bool,
        admission: Admission,
    ) -> Answers:
        start = time.monotonic()
        # Adapters that read alike share what is read, and its tokens.
        by_form: dict[tuple[Encoder, int], tuple[list[Text], Tokens]] = {}
        readings = []
        for one in adapters:
            form = one.tokenizer, one.bundle.texts_per_row
            if form not in by_form:
                by_form[form] = await self._reading(one, texts, characters, deadline, truncate)
            readings.append(by_form[form])
        every = [tokens for _, tokens in by_form.values()]
        read = sum(len(ids) for each in every for ids in each.ids)
        cut = sum(each.truncated for each in every)
        tokenizing = time.monotonic() - start
        self._observer.tokenized(texts=len(texts), tokens=read, cut=cut, seconds=tokenizing)

        rows = [
            Row(ids, one) for one, (_, tokens) in zip(adapters, readings, strict=True) for ids in tokens.ids
        ]
        ran = await self._run(rows, key, deadline, admission)
        by_name, at = {}, 0
        for one, (own, tokens) in zip(adapters, readings, strict=True):
            outputs = of_texts(enumerate(ran.outputs[at : at + len(tokens)]), tokens)
            at += len(tokens)
            by_name[one.name] = Answer(one.task, one.generation, one.task.predictions(outputs, own), outputs)
        return Answers(by_name, read, cut, tokenizing, ran.queued, ran.computed)

    async def _reading(
        self, adapter: Loaded, texts: Sequence[Any], characters: int, deadline: float, truncate: bool
    ) -> tuple[list[Text], Tokens]:
        """Turns what was sent into texts and their tokens."""
        read = _read(texts, adapter)
        tokens = await _quickly(lambda: adapter.tokenizer(read), characters, deadline)
        if tokens.truncated and not truncate:
            raise Invalid(
                f"{tokens.truncated} of {len(texts)} texts have more than the {adapter.tokenizer.max_length} tokens "
                f"that the adapter {adapter.name!r} reads; shorten them, or let them be cut with truncate."
            )
        return read, tokens

    async def _run(self, rows: Sequence[Row], key: Key | None, deadline: float, admission: Admission) -> Ran:
        return await self.batcher.submit(
            rows, deadline=deadline, key="" if key is None else key.name, admission=admission
        )


async def _in_time(work: Awaitable[_T], deadline: float) -> _T:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        raise TimedOut(LATE) from None


async def _quickly(work: Callable[[], _T], characters: int, deadline: float) -> _T:
    """Does what takes the longer the more characters there are, in a thread where they are many."""
    if characters <= _QUICK:
        return work()
    return await _in_time(asyncio.to_thread(work), deadline)


def _size(given: Any) -> int:
    """Counts characters; of a list each string counts, though it be empty."""
    parts = given if isinstance(given, list | tuple) else [given]
    return sum(max(len(part), 1) for part in parts if isinstance(part, str))


def _read(texts: Sequence[Any], adapter: Loaded) -> list[Text]:
    """Reads what was sent as an adapter does.

    Raises:
        Invalid: If something cannot be meant.
    """
    rows = adapter.bundle.input
    read = [rows.read_given(given) for given in texts]
    bad = [place for place, text in enumerate(read, 1) if text is None]
    if not bad:
        return [text for text in read if text is not None]
    which, first = f"Texts {listed(bad)} (counted from 1)", texts[bad[0] - 1]
    several = len(first) if isinstance(first, list | tuple) else 1
    together = len(rows.columns)
    if not adapter.task.per_word and several != together:
        reads, remedy = (
            (
                f"{together} texts together",
                "send a list of that many for each row: [[text, text], [text, text]]",
            )
            if together > 1
            else ("one text at a time", "wrap each text to send a batch: [[text], [text]]")
        )
        raise Invalid(f"{which}: the adapter {adapter.name!r} reads {reads}, got {several}; {remedy}.")
    raise Invalid(
        f"{which} are empty, are no strings or hold half a character; the adapter {adapter.name!r} reads "
        f"{rows.described}."
    )


def _shown(encoding: tokenizers.Encoding, text: str) -> list[dict[str, Any]]:
    parts = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        {"id": number, "text": token, "special": True, "start": None, "stop": None}
        if special
        else {"id": number, "text": text[start:stop], "special": False, "start": start, "stop": stop}
        for number, token, special, (start, stop) in parts
    ]
