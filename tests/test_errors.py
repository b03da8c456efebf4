"""Messages of exceptions."""

from keras_peft.errors import reason_of


def test_the_reason_is_a_line_of_the_message():
    assert reason_of(ValueError("\nno such node\nin main")) == "no such node"
    assert reason_of(ValueError("source.cpp:12\nno such node"), line=-1) == "no such node"
    assert len(reason_of(ValueError("x" * 1000))) == 200


def test_the_reason_of_an_empty_message_is_the_class():
    assert reason_of(AssertionError()) == "AssertionError"
    assert reason_of(RuntimeError(" \n ")) == "RuntimeError"
