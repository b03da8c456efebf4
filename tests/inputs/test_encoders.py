"""Encoding rows as token ids: truncation, windows, chunks of rows, and the positions of words."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import TINY
from keras_peft.errors import OptionError
from keras_peft.inputs.text import TextEncoder, TextInput
from keras_peft.inputs.words import WordEncoder, WordInput
from keras_peft.runtime.outputs import compute_outputs

CONTENT = (TINY / "tokenizer.json").read_text(encoding="utf-8")


def test_texts_become_ids_with_special_tokens_and_are_cut():
    tokenizer = TextEncoder((TINY / "tokenizer.json").read_text(), max_length=6)
    tokens = tokenizer(["the model", "the model and the data and the people", ""])
    assert tokens.truncated == 1
    assert [len(ids) for ids in tokens.ids] == [4, 6, 2]
    first, last = tokens.ids[0][0], tokens.ids[0][-1]
    assert all(ids[0] == first and ids[-1] == last for ids in tokens.ids)


@pytest.mark.parametrize("words", [False, True])
def test_many_texts_are_tokenised_in_parts(words):
    texts = [f"the model {'and people ' * (n % 5)}{n}" for n in range(10)]
    texts = [text.split() for text in texts] if words else texts
    kind, content = WordEncoder if words else TextEncoder, (TINY / "tokenizer.json").read_text()
    whole, parted = (kind(content, 9, at_once=rows)(texts) for rows in (100, 3))
    assert list(map(list, parted.ids)) == list(map(list, whole.ids))
    assert parted.truncated == whole.truncated > 0
    assert parted.words is None or list(map(list, parted.words)) == list(map(list, whole.words))


def test_words_know_their_first_tokens():
    tokens = WordEncoder(CONTENT, 7)([("the", "models", "from", "people"), ("time",), ("\u200b", "and")])
    # The second word has several tokens, and the first word of the last row has none.
    assert tokens.words[0][0] == 1
    assert tokens.words[1].tolist() == [1]
    assert tokens.words[2].tolist() == [-1, 1]
    assert [ids[place] for ids, places in zip(tokens.ids, tokens.words, strict=True) for place in places[-1:]]


def test_long_texts_are_read_in_windows():
    content = (TINY / "tokenizer.json").read_text()
    texts = ["the model", " ".join(["people and the time"] * 20), ("the model", " ".join(["time"] * 30))]
    tokens = TextEncoder(content, max_length=16, windows=True)(texts)
    assert tokens.truncated == 0
    assert tokens.owners[0] == 0 and tokens.owners[1] == 1 and tokens.owners[-1] == 2
    assert max(map(len, tokens.ids)) == 16
    whole = TextEncoder(content, max_length=500)(texts).ids
    for number, ids in enumerate(whole):
        seen = {
            token
            for owner, part in zip(tokens.owners, tokens.ids, strict=True)
            if owner == number
            for token in part
        }
        assert seen == set(ids)
    second = [part for owner, part in zip(tokens.owners, tokens.ids, strict=True) if owner == 1]
    assert second[0][-4:-1].tolist() == second[1][1:4].tolist()  # The overlap is a quarter of 14.
    means = compute_outputs(lambda inputs, once: inputs["token_ids"][:, 1:2], tokens)
    assert means[1, 0] == pytest.approx(np.mean([part[1] for part in second]))
    assert len(means) == 3


def test_nothing_is_cut_that_is_read_in_windows():
    assert TextEncoder(CONTENT, 6).seen("the and for with you") == ("the and for with",)
    assert TextEncoder(CONTENT, 6).seen(("the and", "for with you")) == ("the", "for with")
    assert TextEncoder(CONTENT, 6, windows=True).seen("the and for with you") == ("the and for with you",)


def test_words_are_seen_as_far_as_they_have_tokens():
    row = ("the", "model", "and", "people")
    assert WordEncoder(CONTENT, 64).seen(row) == row
    assert WordEncoder(CONTENT, 4).seen(row) == ("the", "model")


@pytest.mark.parametrize(
    ("encoder", "rows"),
    [
        (TextInput().encoder(CONTENT, 9), ["the model and the people and the time"]),
        (
            TextInput(("one", "two")).encoder(CONTENT, 9, long_text="window"),
            [("the model", "and people " * 9)],
        ),
        (WordInput().encoder(CONTENT, 9), [("the", "model", "and", "people")]),
    ],
)
def test_an_encoder_is_made_again_from_what_a_bundle_holds(encoder, rows):
    kind = WordInput() if encoder.reads_words else TextInput()
    (content,) = encoder.files().values()
    again = kind.encoder_from(content, encoder.to_config())
    assert again.to_config() == encoder.to_config()
    for one, other in zip(encoder(rows).ids, again(rows).ids, strict=True):
        np.testing.assert_array_equal(one, other)


def test_there_has_to_be_room_for_text():
    with pytest.raises(
        OptionError,
        match="`max_length=2` leaves no room for text after 2 special tokens; expected at least 3",
    ):
        TextEncoder(CONTENT, 2)
