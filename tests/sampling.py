"""Which of many cases `make test` runs; `make test-all` runs all of them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def thorough(*values: object) -> list[object]:
    """Cases that only `make test-all` runs."""
    return [pytest.param(value, marks=pytest.mark.thorough) for value in values]


def sample(values: Iterable[object], *quick: object) -> list[object]:
    """All of the values, where `make test` runs only those named as quick.

    Example:
        >>> @pytest.mark.parametrize("name", sample(methods.names(), "lora", "prompt"))
    """
    values = list(values)
    assert set(quick) <= set(values), set(quick) - set(values)
    return [value if value in quick else pytest.param(value, marks=pytest.mark.thorough) for value in values]
