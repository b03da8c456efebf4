"""Limits on the requests per minute of each API key: token buckets.

A key can send a whole minute's requests at once; then it regains them evenly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_peft.serve.keys import Key

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key may still send after a request.

    Attributes:
        limit: Requests per minute.
        remaining: Requests that the key can send now.
        reset: Time until the key can send `limit` requests at once, in seconds.
        wait: Time until the key can send the request that was refused, in seconds; 0 if it was allowed.
    """

    limit: int
    remaining: int
    reset: float
    wait: float


class RateLimits:
    """Counts the requests of each key. An instance belongs to one event loop.

    Args:
        default: Requests per minute of keys that set no limit of their own, and of all requests
            together if the server has no keys. None for no limit.
        clock: Returns the time in seconds; it must never go back.

    Example:
        >>> limits = RateLimits(60)
        >>> limits.take(key).remaining
        59
    """

    def __init__(self, default: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._default, self._clock = default, clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: Key | None) -> Allowance | None:
        """Counts a request.

        Args:
            key: Key of the request, or None if the server has no keys.

        Returns:
            What the key may still send, or None if it has no limit.
        """
        limit = key.requests_per_minute if key is not None else None
        limit = limit or self._default
        if limit is None:
            return None
        now, name = self._clock(), "" if key is None else key.name
        if name not in self._buckets:
            self._buckets[name] = _Bucket(limit, now)
        return self._buckets[name].take(now)


class _Bucket:
    """Tokens for requests: full at the start, and refilled by `limit` per minute."""

    __slots__ = ("_at", "_limit", "_tokens")

    def __init__(self, limit: int, now: float) -> None:
        self._limit, self._tokens, self._at = limit, float(limit), now

    def take(self, now: float) -> Allowance:
        per_second = self._limit / _MINUTE
        self._tokens = min(self._limit, self._tokens + (now - self._at) * per_second)
        self._at = now
        wait = max(0.0, (1 - self._tokens) / per_second)
        if not wait:
            self._tokens -= 1
        return Allowance(self._limit, int(self._tokens), (self._limit - self._tokens) / per_second, wait)
