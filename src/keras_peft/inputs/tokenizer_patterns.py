"""Regular expressions that a tokenizer.json may contain: those that match in linear time.

The tokenizer's engine backtracks. A pattern such as `(x+x+)+y` takes exponential time, `x+y` quadratic time.
Allowed are alternatives of single characters with quantifiers, in which nothing that has to match follows an
unbounded quantifier, and a few well-known patterns.
"""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST = 1000
_MOST_ALTERNATIVES = 32
_MOST_ATOMS = 32
# Highest number in a quantifier, and most ways to match the quantifiers of an alternative.
_MOST_REPEATS = 64
_MOST_WAYS = 256

_ESCAPE = r"\\(?:[pP]\{\^?[A-Za-z_]+\}|[sSdDwWnrtfv]|[^A-Za-z0-9])"
_CLASS = rf"\[\^?(?:{_ESCAPE}|[^\\\[\]&])+\]"
_ATOM = re.compile(
    rf"(?P<one>{_ESCAPE}|{_CLASS}|[^\\\[\](){{}}|?*+^$])"
    r"(?P<times>[?*+](?![?+])|\{(?P<least>\d{1,3})(?P<comma>,(?P<most>\d{0,3}))?\}(?![?+*]))?",
    re.DOTALL,
)
_ANCHOR = re.compile(r"\\A|\^")

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# The lookahead fails at most once for each run of spaces.
_LAST_SPACES = r"\s+(?!\S)"
# Without another alternative that consumes the spaces, this one takes quadratic time.
_LINES, _SPACES = (r"\s*[\r\n]+", r"\s*[\r\n]"), r"\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_NUMBERS_AND_SPACES = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_KNOWN = {
    # o200k
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|{_NUMBERS_AND_SPACES}": 1,
    # Strips the spaces around a text.
    r"\A +| +\z": 1,
}


@lru_cache(256)
def shortest_match(pattern: str) -> int | None:
    """Returns the fewest characters that a regular expression matches, if it matches in linear time.

    Args:
        pattern: The regular expression, in the syntax of Oniguruma.

    Returns:
        The number of characters; None if the pattern is not one of those that are allowed.

    Example:
        >>> shortest_match(" {2,}"), shortest_match("(x+x+)+y")
        (2, None)
    """
    if pattern in _KNOWN:
        return _KNOWN[pattern]
    if not pattern or len(pattern) > _LONGEST:
        return None
    alternatives = _alternatives(pattern)
    if len(alternatives) > _MOST_ALTERNATIVES:
        return None
    least = _MOST_REPEATS * _MOST_ATOMS
    for one in alternatives:
        if one in (_CONTRACTIONS, _LAST_SPACES) or (one in _LINES and _SPACES in alternatives):
            found: int | None = 2 if one == _CONTRACTIONS else 1
        else:
            found = _shortest_of(one)
        if found is None:
            return None
        least = min(least, found)
    return least


def _alternatives(pattern: str) -> list[str]:
    """Splits a pattern at the bars outside of classes and groups."""
    parts, depth, in_class, start, place = [], 0, False, 0, 0
    while place < len(pattern):
        mark = pattern[place]
        if mark == "\\":
            place += 1
        elif in_class:
            in_class = mark != "]"
        elif mark == "[":
            in_class = True
        elif mark in "()":
            depth += 1 if mark == "(" else -1
        elif mark == "|" and not depth:
            parts.append(pattern[start:place])
            start = place + 1
        place += 1
    return [*parts, pattern[start:]]


def _shortest_of(alternative: str) -> int | None:
    """Returns the fewest characters that an alternative of single characters matches."""
    anchor = _ANCHOR.match(alternative)
    place = anchor.end() if anchor else 0
    least, ways, atoms, is_unbounded = 0, 1, 0, False
    while place < len(alternative):
        found = _ATOM.match(alternative, place)
        if found is None:
            return None
        fewest, most = _times(found)
        if fewest > _MOST_REPEATS or (most or 0) > _MOST_REPEATS or (most is not None and most < fewest):
            return None
        if is_unbounded and fewest:
            return None
        is_unbounded = is_unbounded or most is None
        ways *= 1 if most is None else most - fewest + 1
        least, atoms, place = least + fewest, atoms + 1, found.end()
    return least if least and ways <= _MOST_WAYS and atoms <= _MOST_ATOMS else None


def _times(found: re.Match[str]) -> tuple[int, int | None]:
    """Returns the fewest and the most repetitions of an atom; None if they are unbounded."""
    simple = {None: (1, 1), "?": (0, 1), "*": (0, None), "+": (1, None)}
    if found["times"] in simple:
        return simple[found["times"]]
    least = int(found["least"])
    if found["comma"] is None:
        return least, least
    return least, int(found["most"]) if found["most"] else None
