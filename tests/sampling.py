"""Which of many cases `make test` runs; `make test-all` runs all of them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def thorough(*values: object, eager: bool = True) -> list[object]:
    """Cases that only `make test-all` runs, and without tracing: others of their kind are traced.

    Many small steps are done sooner with tracing: `eager=False`.
    """
    return sample(values, eager=eager)


def sample(values: Iterable[object], *quick: object, eager: bool = True) -> list[object]:
    """All of the values; `make test` runs only those named as quick, and TensorFlow traces only those.

    Many small steps are done sooner with tracing: `eager=False`.

    Example:
        >>> @pytest.mark.parametrize("name", sample(methods.names(), "lora", "prompt"))
    """
    values = list(values)
    assert all(value in values for value in quick), quick
    marks = [pytest.mark.thorough, *([pytest.mark.eager] if eager else [])]
    return [value if value in quick else pytest.param(value, marks=marks) for value in values]
