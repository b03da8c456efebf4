"""The limits that the environment sets."""

from __future__ import annotations

import pytest

from keras_peft import storage_limits
from keras_peft.errors import OptionError


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("", 8 << 30),
        ("0", 0),
        ("1000", 1000),
        ("1.2 kB", 1200),
        ("500MB", 500_000_000),
        ("2GiB", 2 << 30),
        ("2 gi", 2 << 30),
    ],
)
def test_a_size_is_read_with_its_unit(monkeypatch, value, size):
    monkeypatch.setenv("KERAS_PEFT_CACHE_SIZE", value)
    assert storage_limits.cache_limit() == size


@pytest.mark.parametrize("value", ["much", "-1", "2XB", "1e9", "2 G B", "IB"])
def test_what_is_not_a_size_is_refused(monkeypatch, value):
    monkeypatch.setenv("KERAS_PEFT_MEMORY", value)
    with pytest.raises(
        OptionError,
        match=f"KERAS_PEFT_MEMORY={value} in the environment is not a valid size",
    ):
        storage_limits.text_limit()
