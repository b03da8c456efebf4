"""Interprets the values of a label column before the task is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# Up to this many distinct whole numbers count as class names.
_MOST_CLASSES = 20


def labels_of(value: Any) -> tuple[str, ...]:
    """Returns the labels in a table cell.

    Args:
        value: A label, a list of labels, or a number.

    Returns:
        The labels as strings; empty if the cell holds none.
    """
    if isinstance(value, list):
        return tuple(label for one in value for label in labels_of(one))
    if isinstance(value, bool):
        return (str(value).lower(),)
    if isinstance(value, int | float):
        return () if math.isnan(value) else (f"{value:.15g}" if isinstance(value, float) else str(value),)
    return (value,) if isinstance(value, str) else ()


def are_numbers(labels: Sequence[tuple[str, ...]]) -> bool:
    """Reports whether labels are regression values rather than class names.

    Args:
        labels: The labels of each row.

    Returns:
        True if all labels are finite numbers, and some have a fraction or there are many distinct ones.
    """
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
