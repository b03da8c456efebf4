"""Mutations of JSON: the values change, the syntax mostly stays valid."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.mutations import Mutation, raw

# Written into the text after it is encoded, since json.dumps cannot write them.
_DEEP, _LONG_NUMBER = "@deep@", "@long number@"
_NESTED = 100_000
# A value is repeated up to so many characters; several mutations multiply.
_MOST_CHARACTERS = 4 << 20
_NUMBERS = (
    *(
        0,
        -1,
        1,
        2,
        7,
        -(2**31),
        2**31,
        2**32 + 1,
        2**53,
        2**63 - 1,
        2**63,
        2**64,
        -(2**63) - 1,
        10**18,
        10**400,
    ),
    *(0.0, -0.0, 0.5, 1.5, -1e-9, 1e-320, 1e38, 3.5e38, 1e308, math.nan, math.inf, -math.inf),
)
_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\r\n",
        "‮",
        "\u200b",
        "\ud800",
        "\udfff",
    ),
    *(
        "é" * 10,
        "e\u0301" * 10,
        "😀",
        "\ufeff",
        "../../../etc/passwd",
        "/etc/passwd",
        "C:\\x",
        ".",
        "..",
        "a/b",
    ),
    *(
        "nan",
        "inf",
        "-1",
        "1e999",
        "true",
        "null",
        "None",
        "__class__",
        "__proto__",
        "os.system",
        "hf://a/b",
        "%s%n",
    ),
    *(
        "{0.__class__}",
        "(a+)+$",
        "a" * 1000,
        "x" * 1_000_000,
        "[bold]",
        "[/]",
        "<script>alert(1)</script>",
        _DEEP,
    ),
    _LONG_NUMBER,
)


def any_value(random: Random) -> Any:
    """Returns a value of any type."""
    return random.choice(
        (
            lambda: random.choice(_NUMBERS),
            lambda: random.choice(_TEXTS),
            lambda: random.choice((None, True, False)),
            lambda: random.choice(([], {}, [[]], [{}], [None], {"": None}, [[1], [1, 2]], [0] * 10_000)),
            lambda: {"type": random.choice(_TEXTS), "name": random.choice(_TEXTS)},
        )
    )()


def edit(random: Random, value: Any) -> Any:
    """Returns a copy of a JSON value with one change at a random place.

    Args:
        random: Random generator.
        value: The value, as `json.loads` returns it.
    """
    if not isinstance(value, dict | list) or not value or random.random() < 0.02:
        return any_value(random)
    changed = copy.deepcopy(value)
    places = list(_places(changed))
    owner, key = random.choice(places)
    random.choice(_EDITS)(random, owner, key, places)
    return changed


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every dictionary and list inside a value, with each of their keys."""
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def _drop(random: Random, owner: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    del owner[key]


def _retype(random: Random, owner: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    owner[key] = any_value(random)


def _wrap(random: Random, owner: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    owner[key] = random.choice(([owner[key]], {"value": owner[key]}, str(owner[key])))


def _swap(random: Random, owner: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    other, place = random.choice(places)
    owner[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(owner[key])


def _scale(random: Random, owner: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    numbers = [(one, at) for one, at in places if type(one[at]) in (int, float)]
    owner, key = random.choice(numbers or [(owner, key)])
    value = owner[key]
    # Larger numbers have no half, and are too long to be written in digits.
    if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > 10**300):
        value = 1
    owner[key] = random.choice(
        (-value, value + 1, value - 1, value * 1000, value * 10**9, value / 2, str(value))
    )


def _lengthen(random: Random, owner: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    value, times = owner[key], random.choice((2, 100, 10_000))
    times = max(1, min(1000 if isinstance(value, str) else times, _MOST_CHARACTERS // len(json.dumps(value))))
    owner[key] = value * times if isinstance(value, str) else [value] * times


def _rename(random: Random, owner: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(owner, dict):
        owner[random.choice((*_TEXTS, key.upper(), f"{key}s", f" {key}"))] = owner.pop(key)
    else:
        owner.reverse()


def _add(random: Random, owner: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(owner, dict):
        owner[random.choice(_TEXTS)] = any_value(random)
    else:
        owner.insert(key, random.choice((any_value(random), copy.deepcopy(owner[key]))))


_Edit = Callable[[Random, Any, Any, list[tuple[Any, Any]]], None]
_EDITS: tuple[_Edit, ...] = (
    _drop,
    _retype,
    _retype,
    _retype,
    _wrap,
    _swap,
    _scale,
    _scale,
    _lengthen,
    _rename,
    _add,
)


def encode(value: Any) -> bytes:
    """Returns a value as JSON, with the values that `json.dumps` cannot write."""
    text = json.dumps(value)
    text = text.replace(f'"{_DEEP}"', "[" * _NESTED + "]" * _NESTED).replace(
        f'"{_LONG_NUMBER}"', "9" * 10_000
    )
    return text.encode()


def values(random: Random, content: bytes) -> bytes:
    """Changes one to three values of a JSON file."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return raw.flip(random, content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = edit(random, value)
    return encode(value)


def lines(random: Random, content: bytes) -> bytes:
    """Changes values in a line of a JSON Lines file."""
    every = content.split(b"\n")
    place = random.randrange(len(every))
    every[place] = values(random, every[place])
    return b"\n".join(every)


def repeated_key(random: Random, content: bytes) -> bytes:
    """Gives an object of a JSON file the same key twice."""
    place = content.find(b"{")
    if place < 0:
        return raw.flip(random, content)
    try:
        keys = [key for owner, key in _places(json.loads(content)) if isinstance(owner, dict)]
    except (ValueError, RecursionError):
        keys = []
    key = random.choice(keys or ["text"])
    new = encode({key: any_value(random)})[1:-1]
    return content[: place + 1] + new + b"," + content[place + 1 :]


MUTATIONS: tuple[Mutation, ...] = (values, values, values, values, repeated_key)
