"""Tokens and padded batches."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import TINY
from keras_peft.inputs.tokens import Tokens
from keras_peft.inputs.words import WordEncoder
from keras_peft.runtime.outputs import compute_outputs
from keras_peft.runtime.padding import padded_length
from keras_peft.tasks import UNLABELLED
from keras_peft.training.batches import TrainingBatches, by_token


def tokens_of(lengths):
    return Tokens(tuple(np.full(length, n + 1, np.int32) for n, length in enumerate(lengths)), truncated=0)


@given(st.lists(st.integers(1, 130), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 3))
@settings(deadline=None, max_examples=80)
def test_every_row_comes_once_an_epoch(lengths, batch_size, seed):
    rows = tokens_of(lengths)
    batches = TrainingBatches(rows, np.arange(len(lengths)), batch_size, seed)
    for _ in range(2):
        seen = []
        for number in range(len(batches)):
            inputs, targets = batches[number]
            longest = max(len(rows.ids[row]) for row in targets)
            assert inputs["token_ids"].shape[1] == padded_length(longest)
            np.testing.assert_array_equal(inputs["token_ids"].max(axis=1), targets + 1)
            np.testing.assert_array_equal(inputs["padding_mask"].sum(axis=1), np.array(lengths)[targets])
            seen += targets.tolist()
        assert sorted(seen) == list(range(len(lengths)))
        batches.on_epoch_end()


def test_the_same_seed_gives_the_same_batches():
    def order(seed):
        batches = TrainingBatches(tokens_of(range(1, 41)), np.arange(40), 4, seed)
        return [batches[n][1].tolist() for n in range(len(batches))]

    assert order(1) == order(1)
    assert order(1) != order(2)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="the others take the batches as they are")
def test_tensorflow_sees_the_same_batches_epoch_by_epoch():
    lengths, targets = range(1, 41), np.arange(40)
    batches = TrainingBatches(tokens_of(lengths), targets, 4, seed=1)
    data = batches.for_fit()
    assert int(data.cardinality()) == 10
    assert data.options().autotune.enabled is False
    expected = TrainingBatches(tokens_of(lengths), targets, 4, seed=1)
    for _ in range(2):
        for number, (inputs, numbers) in enumerate(data):
            np.testing.assert_array_equal(numbers, expected[number][1])
            np.testing.assert_array_equal(inputs["token_ids"], expected[number][0]["token_ids"])
        expected.on_epoch_end()


def words_of():
    encoder = WordEncoder((TINY / "tokenizer.json").read_text(), max_length=7)
    return encoder([("the", "models", "from", "people"), ("time",), ("\u200b", "and")])


def test_outputs_and_targets_of_words_stand_at_their_first_tokens():
    tokens = words_of()
    found = compute_outputs(lambda inputs, once: inputs["token_ids"][..., None], tokens)
    for own, ids, places in zip(found, tokens.ids, tokens.words, strict=True):
        assert own[:, 0].tolist() == [ids[place] if place >= 0 else 0 for place in places]
    targets = np.empty(3, object)
    targets[:] = [np.arange(len(places)) for places in tokens.words]
    batches = TrainingBatches(tokens, by_token(tokens, targets), 3, seed=0)
    inputs, padded = batches[0]
    assert padded.shape == inputs["token_ids"].shape
    for row, ids in enumerate(inputs["token_ids"]):
        at = next(n for n, one in enumerate(tokens.ids) if one[1] == ids[1])
        seen = [number for number in tokens.words[at] if number >= 0]
        expected = np.full(len(ids), UNLABELLED)
        expected[seen] = np.flatnonzero(tokens.words[at] >= 0)
        assert padded[row].tolist() == expected.tolist()
