"""Durations and predictions of them."""

from __future__ import annotations

import math

import pytest

from keras_peft.comparing.costs import Costs, Pace
from keras_peft.durations import Clock, seconds_of
from keras_peft.errors import OptionError


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        ("20m", 1200),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("90s", 90),
        ("90", 90),
        ("0.5H", 1800),
        (45, 45),
        (1.5, 1.5),
    ],
)
def test_durations_are_read(given, seconds):
    assert seconds_of(given) == seconds


@pytest.mark.parametrize(
    "given", ["", "soon", "-5m", "0", 0, -1, math.nan, math.inf, True, [], "5m20h", "9" * 400]
)
def test_anything_else_is_refused(given):
    with pytest.raises(OptionError, match="expected a duration above 0, such as 20m"):
        seconds_of(given)


def test_without_a_budget_time_is_never_up():
    assert Clock(None).left() == math.inf
    assert 0 < Clock(100).left() <= 100


def test_predictions_follow_the_measured_durations():
    costs = Costs({"words": 0, "probe": 0, "lora": 2, "dora": 2, "full": 6}.__getitem__)
    assert costs.predict("full") is None
    costs.measured("words", 1)
    assert costs.predict("probe") == 1
    assert costs.predict("full") > costs.predict("lora") > 1
    costs.measured("lora", 21)
    assert costs.predict("dora") == 21
    assert costs.predict("full") == 61
    costs.measured("full", 100)
    costs.measured("full", 90)
    assert costs.predict("full") == 100  # The longest, since a training that is cut off is lost.


def test_a_forecast_leaves_out_what_happens_before_the_steps():
    pace = Pace(began=100)
    assert pace.whole() is None
    pace.step(0, at=130)  # 30 s of imports.
    pace.step(0.01, at=140)  # 10 s of tracing.
    assert pace.whole() is None
    pace.step(0.06, at=142)
    assert pace.whole() is None  # Too few steps.
    pace.step(0.51, at=160)
    assert pace.whole() == pytest.approx(40 + 20 / 0.5 * 0.99)
    pace.step(1, at=200)
    assert pace.whole() == pytest.approx(100)
