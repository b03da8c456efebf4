"""Selects the cases that `make test` runs; `make test-all` runs all of them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def thorough(*values: object, eager: bool = True) -> list[object]:
    """Marks cases that only `make test-all` runs, without tracing.

    Use `eager=False` for cases of many small steps, which run faster with tracing.
    """
    return sample(values, eager=eager)


def sample(values: Iterable[object], *quick: object, eager: bool = True) -> list[object]:
    """Returns all values; `make test` runs only the quick ones, and TensorFlow traces only those.

    Use `eager=False` for cases of many small steps, which run faster with tracing.

    Example:
        >>> @pytest.mark.parametrize("name", sample(methods.names(), "lora", "prompt"))
    """
    values = list(values)
    assert all(value in values for value in quick), quick
    marks = [pytest.mark.thorough, *([pytest.mark.eager] if eager else [])]
    return [value if value in quick else pytest.param(value, marks=marks) for value in values]
