"""Whether tensors fit an adapter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_peft.errors import AdapterError, listed

LARGEST = 1e12
"""Weights beyond it in absolute value are refused: sums of their products overflow float32, and none is trained."""
# More problems are only counted.
_MOST_NAMED = 100

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by key."""


class Unfit(AdapterError):
    """Raised when tensors are not those of an adapter, whatever runs it."""


def refuse_unfit(tensors: Mapping[str, np.ndarray], shapes: Shapes) -> None:
    """Checks that tensors have the keys and shapes of an adapter, and values that it can compute with.

    Args:
        tensors: The tensors by key.
        shapes: The expected shapes by key.

    Raises:
        Unfit: If a key is missing or unexpected, or a tensor has the wrong shape or
            values that are not finite or too large. The message lists all problems.
    """
    problems = _shape_problems({key: value.shape for key, value in tensors.items()}, shapes)
    for key, value in tensors.items():
        problems += _values(key, value) if key in shapes else []
    _refuse(problems)


def refuse_other_shapes(found: Shapes, shapes: Shapes) -> None:
    """Checks that tensors have the keys and shapes of an adapter, before they are read.

    Args:
        found: The shapes of the tensors by key, from `core.weights.read_shapes`.
        shapes: The expected shapes by key.

    Raises:
        Unfit: If a key is missing or unexpected, or a shape is another. The message lists all problems.
    """
    _refuse(_shape_problems(found, shapes))


def _shape_problems(found: Shapes, shapes: Shapes) -> list[str]:
    missing = [f"missing {key} {shape}" for key, shape in shapes.items() if key not in found]
    extra = [f"unexpected {key} {shape}" for key, shape in found.items() if key not in shapes]
    misshapen = [
        f"{key}: expected {shapes[key]}, got {shape}"
        for key, shape in found.items()
        if key in shapes and shapes[key] != shape
    ]
    return missing + extra + misshapen


def _values(key: str, value: np.ndarray) -> list[str]:
    if not np.isfinite(value).all():
        return [f"{key}: has values that are not finite"]
    # Not of `abs`, which would take as much memory as the tensor.
    if value.size and max(float(value.max()), -float(value.min())) > LARGEST:
        return [f"{key}: has values above {LARGEST:g}"]
    return []


def _refuse(problems: list[str]) -> None:
    if problems:
        raise Unfit(f"The weights do not fit this adapter: {listed(problems, most=_MOST_NAMED)}.")
