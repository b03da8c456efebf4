"""Settings of tasks from files: those that mean nothing are refused, all at once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_peft import tasks
from keras_peft.errors import OptionError

pytestmark = pytest.mark.one_backend

ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.lists(st.floats() | st.none() | st.text(max_size=2), max_size=3)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
)  # fmt: skip
NAMES = (
    "temperature",
    "abstain_below",
    "thresholds",
    "mean",
    "deviation",
    "activation",
    "pooling",
    "colour",
    "labels",
)


@given(
    st.sampled_from(tasks.names()),
    st.lists(st.text(max_size=2) | st.none() | st.integers(), max_size=4),
    st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3),
)
def test_a_task_is_made_with_settings_that_mean_something_or_not_at_all(name, labels, config):
    try:
        made = tasks.find(name).from_config(labels, config)
    except OptionError as error:
        assert len(str(error)) < 1_500
        return
    assert len(set(made.labels)) == len(labels)
    assert all(isinstance(label, str) for label in made.labels)
    own = made.to_config()
    assert tasks.find(name).from_config(made.labels, own) == made
    for value in own.values():
        for one in value if isinstance(value, list) else [value]:
            assert not isinstance(one, float) or math.isfinite(one)
    assert own.get("temperature", 1) > 0
    assert own.get("deviation", 1) > 0
    assert 0 <= (own.get("abstain_below") or 0) <= 1
    assert all(0 <= one <= 1 for one in own.get("thresholds", []))
    assert len(own.get("thresholds", [])) in (0, len(labels))


@pytest.mark.parametrize(
    ("name", "labels", "config", "problems"),
    [
        ("single-label", "ab", {"temperature": 0, "abstain_below": -0.1}, ["temperature", "abstain below"]),
        ("single-label", "ab", {"temperature": math.nan}, ["from 1e-06 to 1e+06; got nan"]),
        ("single-label", "ab", {"temperature": True}, ["got True"]),
        ("pairs", "ab", {"temperature": -2, "pooling": "last"}, ["got -2", "got 'last'"]),
        ("multi-label", "ab", {"thresholds": [0.5]}, ["There are 1 thresholds for 2 labels"]),
        ("multi-label", "ab", {"thresholds": [0.5, 2]}, ["got [0.5, 2]"]),
        ("multi-label", "ab", {"thresholds": 0.5}, ["got 0.5"]),
        ("regression", "a", {"deviation": 0, "mean": math.inf}, ["no labels", "deviation", "mean"]),
        ("token-labels", ["O", None], {"temperature": 1}, ["temperature", "Labels are strings; got [None]"]),
        ("token-labels", ["O", "O"], {}, ["several of ['O']"]),
    ],
)
def test_all_that_is_wrong_is_in_one_message(name, labels, config, problems):
    with pytest.raises(OptionError) as raised:
        tasks.find(name).from_config(labels, config)
    assert all(problem in str(raised.value) for problem in problems)
