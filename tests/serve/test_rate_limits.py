from __future__ import annotations

import pytest

from keras_peft.serve.keys import Key
from keras_peft.serve.rate_limits import Allowance, RateLimits


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_a_whole_minute_can_be_sent_at_once_and_comes_back_evenly():
    clock = Clock()
    limits = RateLimits(6, clock)
    allowed = [limits.take(None) for _ in range(6)]
    assert [one.remaining for one in allowed] == [5, 4, 3, 2, 1, 0]
    assert allowed[0] == Allowance(limit=6, remaining=5, reset=pytest.approx(10), wait=0)
    assert limits.take(None) == Allowance(
        limit=6, remaining=0, reset=pytest.approx(60), wait=pytest.approx(10)
    )
    clock.now += 9
    # Refusals cost nothing.
    assert limits.take(None).wait == pytest.approx(1)
    clock.now += 1.5
    assert limits.take(None).wait == 0
    assert limits.take(None).wait == pytest.approx(9.5)
    clock.now += 10_000
    assert limits.take(None).remaining == 5


def test_each_key_has_its_own_limit_or_the_default():
    slow, fast, other = (
        Key("slow", b"", requests_per_minute=1),
        Key("fast", b"", requests_per_minute=9),
        Key("x", b""),
    )
    limits = RateLimits(2, Clock())
    assert [limits.take(key).limit for key in (slow, fast, other)] == [1, 9, 2]
    assert [bool(limits.take(key).wait) for key in (slow, fast, other)] == [True, False, False]
    assert limits.take(other).wait
    unlimited = RateLimits(None, Clock())
    assert unlimited.take(other) is None
    assert unlimited.take(slow).limit == 1
