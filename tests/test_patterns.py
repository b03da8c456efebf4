"""Regular expressions: those that take long or much memory are refused."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_peft import patterns
from keras_peft.patterns import PatternError, compiled, find

pytestmark = pytest.mark.one_backend

PATH = "a" * 40 + "/query"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a{100}){200}", "repeats a part more than 10,000 times"),
        ("a{1000000000}", "repeats a part more than 10,000 times"),
        ("a{" + "9" * 6000 + "}", "repeats a part more than 10,000 times"),
        ("a" * 10_001, "has more than 10,000 characters"),
        ("(?P<block", "is not a regular expression"),
        ("(" * 4000 + ")" * 4000, "is not a regular expression"),
    ],
)
def test_patterns_that_are_refused(pattern, message):
    with pytest.raises(PatternError, match=message):
        compiled(pattern)


def test_a_search_ends(monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.05)
    with pytest.raises(PatternError, match=r"takes more than 0.05 s on 'aaa"):
        find("^(a|aa)+$", PATH)


@given(st.text(alphabet="ab/_$^.*+?()[]|\\d1{},", max_size=12))
def test_patterns_of_the_standard_library_match_the_same(pattern):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = re.search(pattern, "ab/a1_b")
        except (re.error, OverflowError):
            return  # The other engine may know it.
        try:
            found = find(pattern, "ab/a1_b")
        except PatternError as error:
            # The standard library reads a brace without a repeat as a character.
            assert "repeats a part" in str(error) or "{" in pattern
            return
    assert (found and found[0]) == (expected and expected[0])
