"""The character map of a `Precompiled` normalizer: a double array of keys, and their replacements.

SentencePiece writes it: the size of the double array in bytes, the array of 32-bit units, and the replacements, each
ended by a zero byte. The tokenizer follows its offsets without checking them.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np

# Characters in base64; the largest known map has about 320,000.
_LONGEST = 2_000_000
# The tokenizer combines a position with the next byte of a text.
_BLOCK = 256


def longest_replacement(charsmap: object) -> int | None:
    """Returns the number of characters of the longest replacement of a character map.

    Args:
        charsmap: The map, as base64.

    Returns:
        The number of characters, at least 1; None if the map is damaged: not base64, too large, or with offsets that
        point outside of it.
    """
    if not isinstance(charsmap, str) or len(charsmap) > _LONGEST:
        return None
    try:
        data = base64.b64decode(charsmap, validate=True)
        size = int.from_bytes(data[:4], "little")
        if len(data) < 4 or size % 4 or not size or size > len(data) - 4:
            return None
        replacements = data[4 + size :].decode()
    except (binascii.Error, ValueError):
        return None
    units = np.frombuffer(data, "<u4", size // 4, 4).astype(np.int64)
    if not _stays_inside(units, np.frombuffer(data[4 + size :], np.uint8)):
        return None
    return max(1, max(map(len, replacements.split("\0"))))


def _stays_inside(units: np.ndarray, replacements: np.ndarray) -> bool:
    """Reports whether all offsets of the double array point to units, and all its values to replacements."""
    # The highest bit marks a value, whose label is that of no byte; the first unit is followed whatever it holds.
    inner = np.flatnonzero((units >> 31 == 0) | (np.arange(len(units)) == 0))
    unit = units[inner]
    targets = inner ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6))
    if (targets | (_BLOCK - 1)).max(initial=0) >= len(units):
        return False
    values = units[targets[(unit >> 8) & 1 == 1]] & 0x7FFFFFFF
    # A value inside of a character would split it.
    starts = np.append((replacements & 0xC0) != 0x80, True)
    return bool(values.max(initial=0) < len(starts)) and bool(starts[values].all())
