"""Durations, numbers and sizes in few characters, for tables and plots."""

from __future__ import annotations

import math

# What is rounded to 1,000 of a unit is 1 of the next.
_ROUNDED = 0.9995


def duration(seconds: float) -> str:
    """Formats a duration with two or three digits.

    Args:
        seconds: The duration.

    Example:
        >>> duration(4.18), duration(192.8)
        ('4.2 s', '3.2 min')
    """
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 1.995 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s"


def short_count(count: int) -> str:
    """Formats a number with a suffix: K for thousands, M for millions, B for billions.

    Args:
        count: The number.

    Example:
        >>> short_count(149_380)
        '149 K'
    """
    for size, suffix in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= _ROUNDED * size:
            return f"{_short(count / size)} {suffix}"
    return str(count)


def size(count: float) -> str:
    """Formats a number of bytes, in powers of 1000.

    Args:
        count: The number of bytes.

    Example:
        >>> size(1_634_000)
        '1.6 MB'
    """
    for unit, suffix in ((10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if count >= _ROUNDED * unit:
            return f"{_short(count / unit)} {suffix}"
    return f"{count:.0f} B"


def rough(count: int) -> str:
    """Rounds a number to two digits, as an estimate is shown.

    Args:
        count: The number.

    Example:
        >>> rough(2_437)
        '2,400'
    """
    if count < 100:
        return str(count)
    step = 10 ** (math.floor(math.log10(count)) - 1)
    return f"{round(count / step) * step:,}"


def _short(value: float) -> str:
    """Formats a number with one decimal below 10 and none above; tiny ones keep one digit."""
    if 0 < value < 0.095:
        return f"{value:.1g}" if value >= 0.001 else "0.001"
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"
