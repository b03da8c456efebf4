"""Truncation and windows of two texts that are read together.

For two long texts, the tokenizer itself would keep every combination of their parts in memory, gigabytes for 60,000
characters. These functions give the same rows from the ids of each text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, product

import numpy as np

from keras_peft.errors import DataError
from keras_peft.inputs.tokenizer_parts import PairTemplate

_MOST_WINDOWS = 10_000


def kept_lengths(first: int, second: int, most: int) -> tuple[int, int]:
    """Returns how many tokens of two texts are kept; the longer one is cut first.

    Args:
        first: Tokens of the first text.
        second: Tokens of the second text.
        most: Maximum tokens of both.

    Returns:
        The number of tokens of the first and of the second text.
    """
    if first + second <= most:
        return first, second
    shorter = min(first, second)
    longer = max(shorter, most - shorter)
    if shorter + longer > most:
        shorter, longer = most // 2, most // 2 + most % 2
    return (shorter, longer) if first <= second else (longer, shorter)


def pair_windows(
    first: Sequence[int], second: Sequence[int], template: PairTemplate, most: int, stride: int | None
) -> Iterator[np.ndarray]:
    """Yields the rows of two texts that are read together.

    Args:
        first: Token ids of the first text.
        second: Token ids of the second text.
        template: The special tokens around them.
        most: Maximum tokens of a row, including special tokens.
        stride: Tokens that windows have in common; None if only the first window is read.

    Yields:
        The int32 ids of each window (tokens,), the first of both texts first.

    Raises:
        DataError: If there are more windows than can be read.
    """
    lengths = kept_lengths(len(first), len(second), most - sum(map(len, template)))
    own = [_starts(len(ids), length, stride) for ids, length in zip((first, second), lengths, strict=True)]
    if (count := len(own[0]) * len(own[1])) > _MOST_WINDOWS:
        raise DataError(
            f"A pair of texts with {len(first):,} and {len(second):,} tokens would be read in {count:,} windows; "
            f"expected at most {_MOST_WINDOWS:,}. Shorten them."
        )
    before, between, after = template
    # The order of the tokenizer's own combinations.
    for start, other in chain([(0, 0)], product(own[0][1:], own[1]), ((0, other) for other in own[1][1:])):
        parts = (
            before,
            first[start : start + lengths[0]],
            between,
            second[other : other + lengths[1]],
            after,
        )
        yield np.concatenate([np.asarray(part, np.int32) for part in parts])


def _starts(tokens: int, length: int, stride: int | None) -> Sequence[int]:
    """Returns where the windows of one text start."""
    if stride is None or tokens <= length or not length:
        return (0,)
    step = length - stride if stride < length else length
    return range(0, max(1, tokens - length + step), step)
