"""Limits on memory and disk that the environment sets."""

from __future__ import annotations

import os
import re

from keras_peft.errors import OptionError

UNPACKED = "KERAS_PEFT_UNPACKED_SIZE"
# Text compresses to a third or a tenth, and a file of one repeated character to a thousandth.
_RATIO, _LEAST_UNPACKED = 100, 32 << 20
_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


def memory_limit() -> int:
    """Returns the bytes of features kept in memory: $KERAS_PEFT_MEMORY, or 1 GiB; more are read from disk."""
    return _limit("KERAS_PEFT_MEMORY", 1 << 30)


def text_limit() -> int:
    """Returns the bytes of texts, labels or tokens kept in memory: 1/32 of `memory_limit()`."""
    return memory_limit() // 32


def cache_limit() -> int:
    """Returns the bytes of cached features kept on disk: $KERAS_PEFT_CACHE_SIZE, or 8 GiB."""
    return _limit("KERAS_PEFT_CACHE_SIZE", 8 << 30)


def unpacked_limit(packed: int, *, most: int | None = None) -> int:
    """Returns the bytes that a compressed file may unpack to: $KERAS_PEFT_UNPACKED_SIZE, or a default.

    Args:
        packed: Size of the file in bytes.
        most: The default; 100 times the size, but at least 32 MiB, if it is not given.
    """
    return _limit(UNPACKED, max(_LEAST_UNPACKED, _RATIO * packed) if most is None else most)


def _limit(name: str, default: int) -> int:
    value = os.environ.get(name)
    if not value:
        return default
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", value.strip().upper())
    if not match or match[2] not in _UNITS:
        raise OptionError(
            f"{name}={value} in the environment is not a valid size; expected one such as 500MB or 2GiB."
        )
    return int(float(match[1]) * _UNITS[match[2]])
