"""Durations, numbers and sizes in few characters."""

import pytest

from keras_peft.comparing.units import duration, rough, short_count, size


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (0.0004, "0.001 s"),
        (0.02, "0.02 s"),
        (0.35, "0.3 s"),
        (4.18, "4.2 s"),
        (9.97, "10 s"),
        (119, "119 s"),
        (192.8, "3.2 min"),
        (7_000, "117 min"),
        (7_200, "2.0 h"),
        (300_000, "3.5 d"),
    ],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1_540, "1.5 K"),
        (149_380, "149 K"),
        (999_900, "1.0 M"),
        (22_713_988, "23 M"),
        (7 * 10**9, "7.0 B"),
    ],
)
def test_counts(count, shown):
    assert short_count(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(12, "12 B"), (6_160, "6.2 KB"), (1_634_000, "1.6 MB"), (2 * 10**9, "2.0 GB")]
)
def test_sizes(count, shown):
    assert size(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0"), (97, "97"), (150, "150"), (2_437, "2,400"), (999_999, "1,000,000")]
)
def test_rough_numbers(count, shown):
    assert rough(count) == shown
