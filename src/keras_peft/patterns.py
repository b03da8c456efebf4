"""Regular expressions from users and files, with limits.

The engine of the standard library has no time limit: a pattern such as `(a+)+$` may take years for a name of 50
letters. The one used here has, but it writes out repeats when it compiles, so their number is limited too.
"""

from __future__ import annotations

import math
from functools import lru_cache

import regex

SECONDS = 1.0
MOST_CHARACTERS = 10_000
MOST_REPEATS = 10_000
_REPEATS = regex.compile(r"\{(\d*),?(\d*)\}")


class PatternError(ValueError):
    """Raised when a pattern cannot be used; the message follows the pattern."""


@lru_cache(1024)
def compiled(pattern: str) -> regex.Pattern[str]:
    """Compiles a regular expression.

    Args:
        pattern: The expression, in the syntax of the standard library's `re`.

    Raises:
        PatternError: If it is invalid, too long, or repeats a part too often.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise PatternError(f"has more than {MOST_CHARACTERS:,} characters")
    # Digits are counted first: int() refuses thousands of them.
    counts = [max(map(_count, both)) for both in _REPEATS.findall(pattern)]
    if math.prod(counts) > MOST_REPEATS:
        raise PatternError(f"repeats a part more than {MOST_REPEATS:,} times")
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError) as error:
        raise PatternError(f"is not a regular expression ({error})") from None


def find(pattern: str, text: str) -> regex.Match[str] | None:
    """Searches for a regular expression in a text, such as the path of a layer.

    Args:
        pattern: The expression.
        text: The text.

    Returns:
        The first match, or None.

    Raises:
        PatternError: If the expression cannot be used, or the search takes more than a second.

    Example:
        >>> find("block_(?P<block>[0-9]+)/query$", "encoder/block_2/query")["block"]
        '2'
    """
    try:
        return compiled(pattern).search(text, timeout=SECONDS)
    except TimeoutError:
        raise PatternError(
            f"takes more than {SECONDS:g} s on {text!r}; write it without repeats in repeats"
        ) from None


def _count(digits: str) -> int:
    return (MOST_REPEATS + 1 if len(digits) > 9 else int(digits)) if digits else 1
