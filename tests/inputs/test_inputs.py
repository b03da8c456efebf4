"""Reading rows from the cells of a table, and from a user's values."""

from __future__ import annotations

import pytest

from keras_peft.errors import OptionError
from keras_peft.inputs.text import TextInput
from keras_peft.inputs.words import WordInput

PAIR = TextInput(("question", "answer"))
HALF = "half of an emoji: \ud83d"


@pytest.mark.parametrize(
    ("kind", "cells", "row"),
    [
        (TextInput(), [" a text "], "a text"),
        (TextInput(), ["  "], ""),
        (TextInput(), [3], "3"),
        (TextInput(), [None], ""),
        (PAIR, ["one ", " two"], ("one", "two")),
        (PAIR, ["one", ""], ""),
        (WordInput(), [["a", "b"]], ("a", "b")),
        (WordInput(), ["Turn it on, now!"], ("Turn", "it", "on", ",", "now", "!")),
        (WordInput(), ['["a", "b c"]'], ("a", "b c")),
        (WordInput(), ["[a b"], ("[", "a", "b")),
        (WordInput(), [["a", " "]], ()),
        (WordInput(), [["bus", 7]], ("bus", "7")),
        (WordInput(), [3], ()),
    ],
)
def test_cells_of_a_table_are_read(kind, cells, row):
    assert kind.read(cells) == row


@pytest.mark.parametrize(
    ("kind", "given", "row"),
    [
        (TextInput(), "a text", "a text"),
        (TextInput(), ["a text"], "a text"),
        (TextInput(), ["one", "two"], None),
        (TextInput(), HALF, None),
        (TextInput(), 3, None),
        (PAIR, ("one", "two"), ("one", "two")),
        (PAIR, ["one"], None),
        (PAIR, "one", None),
        (PAIR, ["one", " "], None),
        (WordInput(), ["a", "b"], ("a", "b")),
        (WordInput(), "a b", ("a", "b")),
        (WordInput(), ["a", HALF], None),
        (WordInput(), [], None),
    ],
)
def test_what_a_user_gives_is_read_or_refused(kind, given, row):
    assert kind.read_given(given) == row


def test_columns_can_have_other_names():
    assert TextInput().with_columns(["body"]) == TextInput(("body",))
    assert TextInput().with_columns(["a", "b"]).described == "pairs of texts"


@pytest.mark.parametrize("kind", [TextInput(), PAIR, WordInput()])
def test_a_sample_can_be_given(kind):
    assert kind.read_given(kind.sample()) == kind.sample()


def test_long_rows_are_cut_or_read_in_windows():
    TextInput().check("window")
    with pytest.raises(
        OptionError, match="`long_text='windows'`: expected one of cut, window. Did you mean 'window'"
    ):
        TextInput().check("windows")
    with pytest.raises(
        OptionError, match="Lists of words cannot be read in windows; remove `long_text='window'`"
    ):
        WordInput().check("window")
