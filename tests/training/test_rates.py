"""The learning-rate finder."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft.errors import OptionError
from keras_peft.training import train
from keras_peft.training.rates import smoothed, suggest
from keras_peft.training.train import compile_model


@given(st.floats(-3, -1), st.floats(0.1, 2.0))
def test_the_rate_is_below_the_middle_of_the_fall(middle, start):
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


@pytest.mark.slow
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


@pytest.mark.thorough
def test_the_reported_rates_are_those_of_the_method(tmp_path, monkeypatch):
    accumulation = 3
    compiled = []

    def remember(model, loss, recipe, schedule):
        compile_model(model, loss, recipe, schedule)
        compiled.append((model, recipe))

    monkeypatch.setattr(train, "compile_model", remember)
    data = write_jsonl(tmp_path / "data.jsonl", make_rows(200))
    # This method's learning rate is below the head's, which the schedule sets.
    method = keras_peft.FullFineTuning()
    found = keras_peft.find_rate(
        data, base=str(TINY), method=method, steps=40, highest=0.01, gradient_accumulation=accumulation
    )
    ((model, recipe),) = compiled
    (own,) = {rate for start, rate in recipe.rates.items() if start != "head/"}
    assert own < recipe.rates["head/"]
    schedule, share = model.optimizer._learning_rate, own / recipe.rates["head/"]
    for step, rate in enumerate(found.rates):
        assert float(schedule(step)) * share == pytest.approx(rate, rel=1e-4)
    assert float(schedule(40 * accumulation - 1)) * share == pytest.approx(0.01, rel=1e-4)


def test_what_cannot_be_searched(data):
    for options, message in (
        ({"lowest": 1.0, "highest": 0.1}, "expected two rates above 0, the lower first"),
        ({"lowest": 0.0}, "expected two rates above 0, the lower first"),
        ({"steps": 3}, "`steps=3`: expected 10 or more"),
        ({"learning_rate": 0.1, "epochs": 3}, "'learning_rate', 'epochs' have no effect here"),
    ):
        with pytest.raises(OptionError, match=message):
            keras_peft.find_rate(data, base=str(TINY), **options)


@pytest.mark.thorough
def test_the_command_draws_and_suggests(command_line, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", make_rows(200))
    code, out, _ = command_line("find-rate", data, "--base", TINY, "--layers", "all", "--steps", "40")
    assert code == 0
    assert "Suggested: --learning-rate" in out
    assert "←" in out
    assert "the default of lora is 0.002" in out
