"""Explanations by occlusion: the text is classified again without each of its parts."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from keras_peft.errors import OptionError, listed
from keras_peft.explanation import Explanation, Occlusion, check_explainable
from keras_peft.runtime.outputs import of_texts
from keras_peft.serve.failures import Invalid
from keras_peft.serve.loaded_adapter import AdapterRow, LoadedAdapter
from keras_peft.serve.reading import quickly, read, size_of

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.serve.observer import Observer
    from keras_peft.serve.request import RowOutputs
    from keras_peft.serve.settings import ServeSettings

# An explanation uses at most 1/_PART of the queue at a time.
_PART = 4


async def explain(
    adapter: LoadedAdapter,
    text: Any,
    label: str | None,
    *,
    characters: int,
    deadline: float,
    run: Callable[[Sequence[AdapterRow]], Awaitable[RowOutputs]],
    settings: ServeSettings,
    observer: Observer,
) -> Explanation:
    """Explains which words of a text led to the prediction of an adapter; see `Service.explain`.

    Args:
        adapter: The adapter.
        text: A text, or a pair of texts as a list.
        label: Label to explain, or None for the most probable label.
        characters: Number of characters of the text.
        deadline: Time at which to give up, on the clock of `time.monotonic`.
        run: Runs up to `settings.max_queue` rows at a time.
        settings: Settings of the server.
        observer: Receives events about tokenization.

    Returns:
        The words of the text with their weights.

    Raises:
        Invalid: If the adapter returns no probabilities, does not have the label or cannot read the
            text.
        BackendFailed: If the tokenizer fails.
        Failure: If the rows cannot be run.
    """
    if label is not None and label not in adapter.task.labels:
        raise Invalid(
            f"`label`: the adapter {adapter.name!r} does not have this label; its labels are "
            f"{listed(adapter.task.labels, most=40)}."
        )
    try:
        check_explainable(adapter.task)
    except OptionError as error:
        raise Invalid(str(error)) from None
    (row,) = read([text], adapter)
    start, effort = time.monotonic(), adapter.tokenizer.effort
    occlusion = await quickly(
        lambda: Occlusion.of(row, adapter.tokenizer.seen(row)),
        characters=characters * effort,
        deadline=deadline,
        owner=adapter.name,
    )
    texts = occlusion.rows
    characters = sum(map(size_of, texts))
    if characters > settings.max_body_bytes:
        raise Invalid(
            f"The explanation runs the text once without each of its words, which is {characters} "
            f"characters in all; expected at most {settings.max_body_bytes}. Send a shorter text."
        )
    tokens = await quickly(
        lambda: adapter.tokenizer(texts),
        characters=characters * effort,
        deadline=deadline,
        owner=adapter.name,
    )
    observer.tokenized(
        texts=1,
        tokens=sum(map(len, tokens.ids)),
        cut=int(tokens.truncated > 0),
        seconds=time.monotonic() - start,
    )
    outputs: list[np.ndarray] = []
    most = max(1, settings.max_queue // _PART)
    for first in range(0, len(tokens), most):
        rows = [AdapterRow(ids, adapter) for ids in tokens.ids[first : first + most]]
        outputs += (await run(rows)).outputs
    probabilities = adapter.task.probabilities(of_texts(enumerate(outputs), tokens))
    return occlusion.explanation(adapter.task, probabilities, label)
