"""Tokens that mark capital letters."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_peft
from conftest import TINY, write_jsonl
from keras_peft.inputs.text import TextEncoder
from keras_peft.inputs.words import WordEncoder


def with_unused_tokens() -> str:
    """Returns the tiny tokenizer with its last three tokens renamed to `[unused1]` to `[unused3]`."""
    content = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    last = sorted(vocabulary, key=vocabulary.get)[-3:]
    for number, name in enumerate(last, 1):
        vocabulary[f"[unused{number}]"] = vocabulary.pop(name)
    return json.dumps(content)


CONTENT = with_unused_tokens()
WORDS = st.lists(
    st.sampled_from(["the", "The", "THE", "iPhone", "A", "x9", "9", "model", "Model-T", "ÉTÉ"]), min_size=1
)


@pytest.fixture(scope="module")
def marks():
    tokenizer = WordEncoder(CONTENT, 64, marks_case=True)
    assert tokenizer.marks_case
    return tokenizer._marks._marks


@given(WORDS)
def test_without_its_marks_a_row_is_what_it_was(marks, words):
    plain = WordEncoder(CONTENT, 512)([words])
    marked = WordEncoder(CONTENT, 512, marks_case=True)([words])
    ids = marked.ids[0]
    assert [number for number in ids if number not in marks] == list(plain.ids[0])
    for word, before, after in zip(words, plain.words[0], marked.words[0], strict=True):
        assert ids[after] == plain.ids[0][before]
        assert (ids[after - 1] in marks) == (word.lower() != word)


@pytest.mark.parametrize(
    ("word", "place"), [("The", 0), ("A", 0), ("USA", 1), ("iPhone", 2), ("the", None), ("9", None)]
)
def test_the_three_marks(marks, word, place):
    expected = None if place is None else marks[place]
    assert WordEncoder(CONTENT, 64, marks_case=True)._marks.mark(word) == expected


@given(WORDS, st.integers(3, 12))
def test_marks_make_no_row_too_long(words, most):
    tokens = WordEncoder(CONTENT, most, marks_case=True)([words])
    assert len(tokens.ids[0]) <= most
    assert tokens.ids[0][-1] == WordEncoder(CONTENT, 64)([["the"]]).ids[0][-1]
    assert np.all(tokens.words[0] < len(tokens.ids[0]) - 1)
    whole = WordEncoder(CONTENT, 512, marks_case=True)([words])
    assert tokens.truncated == int(len(whole.ids[0]) > most)
    assert tokens.truncated or np.array_equal(tokens.words[0], whole.words[0])


def test_whole_texts_and_cased_bases_have_none(marks):
    assert not set(TextEncoder(CONTENT, 64)(["The USA"]).ids[0]) & set(marks)
    cased = CONTENT.replace('"lowercase": true', '"lowercase": false')
    assert cased != CONTENT
    assert not WordEncoder(cased, 64, marks_case=True).marks_case


def test_a_tagger_learns_what_only_capitals_show(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(TINY, base)
    (base / "tokenizer.json").write_text(CONTENT, encoding="utf-8")
    rows = []
    for number in range(120):
        words = [["the", "The", "THE"][number % 3], "model", ["time", "Time"][number % 2], f"x{number}"]
        tags = ["WORD" if word.islower() else "NAME" for word in words]
        rows.append({"tokens": words, "tags": tags})
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    keras_peft.fine_tune(data, out=tmp_path / "bundle", base=str(base), epochs=15, learning_rate=0.01)
    classifier = keras_peft.load(tmp_path / "bundle")
    assert classifier.bundle.content["marks_case"]
    said = classifier.predict([["The", "model", "time", "x1"], ["the", "model", "Time", "x1"]])
    assert [one.tags for one in said] == [("NAME", "WORD", "WORD", "WORD"), ("WORD", "WORD", "NAME", "WORD")]
