from __future__ import annotations

from serve.growth import growth


def test_a_leak_is_seen_and_one_jump_is_not():
    leaking, jumping = iter(range(0, 1000, 10)), iter([0, 0, 500, *[500] * 50])
    assert growth(lambda: next(leaking), lambda: None) == 10
    assert growth(lambda: next(jumping), lambda: None) == 0
