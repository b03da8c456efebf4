"""The learning-rate finder."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft.errors import OptionError
from keras_peft.rates import smoothed, suggest


@given(st.floats(-3, -1), st.floats(0.1, 2.0))
def test_the_rate_lies_below_the_middle_of_the_fall(middle, start):
    rates = [10 ** (-5 + 0.05 * n) for n in range(100)]
    means = [start * (0.55 - 0.45 * math.tanh(3 * (math.log10(rate) - middle))) for rate in rates]
    assert suggest(rates, means) == pytest.approx(10**middle / 2.5, rel=0.2)


@pytest.mark.parametrize("means", [[1.0] * 50, [1.0 + n for n in range(50)], [1.0, 0.5]])
def test_where_nothing_falls_there_is_nothing_to_choose_by(means):
    with pytest.raises(OptionError, match="did not fall between the rates"):
        suggest([10.0**n for n in range(len(means))], means)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_a_running_mean_stays_among_what_came(losses):
    for count, mean in enumerate(smoothed(losses), 1):
        assert min(losses[:count]) - 1e-9 <= mean <= max(losses[:count]) + 1e-9


def test_it_trains_while_the_rate_rises(tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", make_rows(200))
    found = keras_peft.find_rate(data, base=str(TINY), layers="all", steps=60)
    assert found.rates[0] == pytest.approx(1e-5)
    assert list(found.rates) == sorted(found.rates)
    assert len(found.losses) == len(found.rates) <= 60
    assert 1e-4 < found.suggestion < 1
    again = keras_peft.find_rate(data, base=str(TINY), layers="all", steps=60)
    assert again.losses == found.losses
    assert found.to_json()["suggestion"] == found.suggestion


def test_the_rate_is_that_of_the_first_method(tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", make_rows(200))
    # Its head learns at a rate of its own, which keeps its proportion.
    low = keras_peft.find_rate(data, base=str(TINY), method=keras_peft.BitFit(), steps=40, highest=0.1)
    assert low.rates[-1] <= 0.1 * (1 + 1e-6)


def test_what_cannot_be_searched(data):
    for options, message in (
        ({"lowest": 1.0, "highest": 0.1}, "expected two rates above 0, rising"),
        ({"lowest": 0.0}, "expected two rates above 0, rising"),
        ({"steps": 3}, "--steps 3: expected 10 or more"),
    ):
        with pytest.raises(OptionError, match=message):
            keras_peft.find_rate(data, base=str(TINY), **options)


def test_the_command_draws_and_suggests(command_line, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", make_rows(200))
    code, out, _ = command_line("find-rate", data, "--base", TINY, "--layers", "all", "--steps", "40")
    assert code == 0
    assert "Suggested: --learning-rate" in out
    assert "←" in out
    assert "lora has 0.002 by default" in out
