"""Messages of exceptions."""

import pytest

from keras_peft.errors import DataError, ExtraNotInstalled, OptionError, reason_of


def test_the_reason_is_a_line_of_the_message():
    assert reason_of(ValueError("\nno such node\nin main")) == "no such node"
    assert reason_of(ValueError("source.cpp:12\nno such node"), line=-1) == "no such node"
    assert len(reason_of(ValueError("x" * 1000))) == 200


def test_the_reason_of_an_empty_message_is_the_class():
    assert reason_of(AssertionError()) == "AssertionError"
    assert reason_of(RuntimeError(" \n ")) == "RuntimeError"


@pytest.mark.parametrize("kind", [DataError, OptionError, ExtraNotInstalled])
def test_a_message_that_quotes_very_much_is_shortened_in_the_middle(kind):
    message = f"There is no column {'x' * 100_000}. Write it again."
    shown = str(kind(message))
    assert len(shown) < 10_100
    assert shown.startswith("There is no column xxx")
    assert "characters are left out" in shown
    assert shown.endswith("xxx. Write it again.")
    assert str(kind(message[:10_000])) == message[:10_000]
