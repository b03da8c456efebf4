"""Durations such as "20m", and the clock of a budget."""

from __future__ import annotations

import math
import re
import time

from keras_peft.errors import OptionError

_PARTS = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")
_MOST = 366 * 24 * 3600


def seconds_of(budget: str | float | None) -> float | None:
    """Reads a budget.

    Args:
        budget: A duration such as "20m", "1h30m" or "90s"; seconds; or None for no limit.

    Returns:
        The seconds, or None for no limit.

    Raises:
        OptionError: If it is not a duration, or is not above 0.

    Example:
        >>> seconds_of("1h30m")
        5400.0
    """
    if budget is None:
        return None
    seconds = math.nan
    if isinstance(budget, str):
        if found := _PARTS.fullmatch(budget.replace(" ", "").lower()):
            hours, minutes, rest = (float(part or 0) for part in found.groups())
            seconds = hours * 3600 + minutes * 60 + rest
    elif isinstance(budget, int | float) and not isinstance(budget, bool):
        seconds = float(budget)
    if not 0 < seconds <= _MOST:
        raise OptionError(
            f"`budget={budget!r}`: expected a duration above 0, such as 20m, 1h30m or 90s, up to a year."
        )
    return seconds


class Clock:
    """The time that has passed and that is left of a budget.

    Args:
        budget: The budget in seconds, None for no limit.
    """

    def __init__(self, budget: float | None) -> None:
        self.budget = budget
        self._began = time.monotonic()

    def passed(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self._began

    def left(self) -> float:
        """Returns the seconds that are left, infinite without a budget."""
        return math.inf if self.budget is None else self.budget - self.passed()
