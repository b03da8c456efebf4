"""Labels as the column of a table holds them, before it is known what they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# Numbers that are whole and no more than these are taken for names of classes.
_MOST_CLASSES = 20


def labels_of(value: Any) -> tuple[str, ...]:
    """Returns the labels in a value of a table: one, a list of them, a number."""
    if isinstance(value, list):
        return tuple(label for one in value for label in labels_of(one))
    if isinstance(value, bool):
        return (str(value).lower(),)
    if isinstance(value, int | float):
        return () if math.isnan(value) else (f"{value:.15g}" if isinstance(value, float) else str(value),)
    return (value,) if isinstance(value, str) else ()


def are_numbers(labels: Sequence[tuple[str, ...]]) -> bool:
    """Tells whether labels are values: all of them numbers, and with a fraction or many."""
    different: set[str] = set()
    whole = True
    for label in (label for one in labels for label in one):
        try:
            value = float(label)
        except ValueError:
            return False
        if not math.isfinite(value):
            return False
        whole = whole and value.is_integer()
        if len(different) <= _MOST_CLASSES:
            different.add(label)
    return bool(different) and (not whole or len(different) > _MOST_CLASSES)
