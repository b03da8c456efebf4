"""Validation and tokenization of the texts of a request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from keras_peft.errors import DataError, OptionError, TokenizerError, listed
from keras_peft.runtime.cores import available_cores
from keras_peft.serve.failures import LATE, BackendFailed, Invalid, Malformed, TimedOut, TooLarge

if TYPE_CHECKING:
    from keras_peft.inputs.input import Text
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.serve.loaded_adapter import LoadedAdapter
    from keras_peft.serve.settings import ServeSettings

_log = logging.getLogger(__name__)
# Longer inputs, in characters, are tokenized in a thread so that they do not block the event loop.
_QUICK = 4000
_T = TypeVar("_T")


def check(texts: Sequence[Any], settings: ServeSettings, *, adapters: int = 1) -> int:
    """Checks the number and length of the texts of a request.

    Args:
        texts: Texts of the request.
        settings: Settings of the server.
        adapters: Number of adapters that read the texts.

    Returns:
        The total number of characters.

    Raises:
        Malformed: If there are no texts or no adapters.
        TooLarge: If there are too many texts.
        Invalid: If a text is too long.
    """
    if not texts or not adapters:
        raise Malformed("The request is empty; send at least one text, and name an adapter.")
    if (count := len(texts) * adapters) > (most := settings.max_texts):
        by = f" for {adapters} adapters" if adapters > 1 else ""
        raise TooLarge(
            f"The request has {len(texts)} texts{by}; expected at most "
            f"{most}{f' in all, got {count}' if adapters > 1 else ''}. Split it into several requests."
        )
    sizes = [size_of(text) for text in texts]
    if long := [place for place, size in enumerate(sizes, 1) if size > settings.max_text_chars]:
        raise Invalid(
            f"Texts {listed(long)} (counted from 1) have more than {settings.max_text_chars} characters; "
            "shorten them."
        )
    return sum(sizes)


async def tokenized(
    adapter: LoadedAdapter, texts: Sequence[Any], *, characters: int, deadline: float, truncate: bool
) -> tuple[list[Text], Tokens]:
    """Converts the texts of a request to inputs of an adapter and tokenizes them.

    Args:
        adapter: The adapter.
        texts: Texts of the request.
        characters: Total number of characters.
        deadline: Time at which to give up, on the clock of `time.monotonic`.
        truncate: Whether to truncate long texts. If False, they are refused.

    Returns:
        The inputs and their tokens.

    Raises:
        Invalid: If a text is not a valid input, or is too long and `truncate` is False.
        BackendFailed: If the tokenizer fails.
        TimedOut: If the deadline passes.
    """
    rows = read(texts, adapter)
    tokens = await quickly(
        lambda: adapter.tokenizer(rows),
        characters=characters * adapter.tokenizer.effort,
        deadline=deadline,
        owner=adapter.name,
    )
    if tokens.truncated and not truncate:
        raise Invalid(
            f"{tokens.truncated} of {len(texts)} texts have more than {adapter.tokenizer.max_length} "
            f"tokens, the maximum of the adapter {adapter.name!r}; shorten them, or set truncate to "
            "true."
        )
    return rows, tokens


def read(texts: Sequence[Any], adapter: LoadedAdapter) -> list[Text]:
    """Converts the texts of a request to inputs of an adapter.

    Args:
        texts: Texts of the request.
        adapter: The adapter.

    Returns:
        One input per text.

    Raises:
        Invalid: If a text is not a valid input of the adapter.
    """
    rows = adapter.bundle.input
    found = [rows.read_given(given) for given in texts]
    bad = [place for place, text in enumerate(found, 1) if text is None]
    if not bad:
        return [text for text in found if text is not None]
    which, first = f"Texts {listed(bad)} (counted from 1)", texts[bad[0] - 1]
    several = len(first) if isinstance(first, list | tuple) else 1
    together = len(rows.columns)
    if not adapter.task.per_word and several != together:
        reads, remedy = (
            (
                f"{together} texts together",
                f"send a list of {together} texts for each row: [[text, text], [text, text]]",
            )
            if together > 1
            else ("one text at a time", "to send a batch, wrap each text in a list: [[text], [text]]")
        )
        raise Invalid(f"{which}: the adapter {adapter.name!r} reads {reads}, got {several}; {remedy}.")
    raise Invalid(
        f"{which} are empty, are not strings or contain an unpaired surrogate; the adapter "
        f"{adapter.name!r} reads {rows.described}."
    )


def size_of(given: Any) -> int:
    """Returns the number of characters of a text, or of all strings in a list.

    An empty string counts as one character.

    Args:
        given: A text or a list of strings; anything else counts 0.
    """
    parts = given if isinstance(given, list | tuple) else [given]
    return sum(max(len(part), 1) for part in parts if isinstance(part, str))


async def in_time(work: Awaitable[_T], deadline: float) -> _T:
    """Awaits a result until a deadline.

    Args:
        work: The awaitable.
        deadline: Time at which to give up, on the clock of `time.monotonic`.

    Returns:
        The result.

    Raises:
        TimedOut: If the deadline passes.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        raise TimedOut(LATE) from None


async def quickly(work: Callable[[], _T], *, characters: int, deadline: float, owner: str = "") -> _T:
    """Calls a tokenizer, in a thread if its input is long.

    Args:
        work: Calls the tokenizer. Its duration grows with the number of characters.
        characters: Number of characters of its input, times the effort of the tokenizer.
        deadline: Time at which to give up, on the clock of `time.monotonic`. It applies only in a
            thread.
        owner: Name of the adapter of the tokenizer; empty for that of the base model.

    Returns:
        The result of the call.

    Raises:
        Invalid: If a text would take too much memory.
        BackendFailed: If the tokenizer fails.
        TimedOut: If the deadline passes.
    """
    try:
        if characters <= _QUICK:
            return work()
        return await in_time(asyncio.get_running_loop().run_in_executor(_threads(), work), deadline)
    except TokenizerError as error:
        _log.error("The tokenizer of %s failed on a text.", owner or "the base model")
        raise BackendFailed(str(error)) from None
    except (DataError, OptionError) as error:
        raise Invalid(str(error)) from None


@cache
def _threads() -> ThreadPoolExecutor:
    """Returns the threads for long inputs: so few that their memory is bounded."""
    return ThreadPoolExecutor(available_cores(), thread_name_prefix="keras-peft-tokenizer")
