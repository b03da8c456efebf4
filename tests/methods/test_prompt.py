"""Prompt tuning: how the vectors are initialised, and that they act as tokens of the text."""

from __future__ import annotations

import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.errors import AdapterError, OptionError, SelectionError
from methods.counting import DIM, WORDS, adapted, count, outputs_of

KEY = "token_and_position_embedding/token_embedding/prompt/prompt"


def test_count():
    assert count(keras_peft.PromptTuning(tokens=5)) == 5 * DIM


def test_the_vectors_of_words_are_these_words():
    """A prompt of three words' embeddings gives the same outputs as these words before the text."""
    words = (7, 8, 9)
    method = keras_peft.PromptTuning(tokens=3, initialization="text", token_ids=words)
    model = adapted(method)
    inputs = models.inputs_of(model.base)
    rows = len(inputs["token_ids"])
    longer = {
        "token_ids": np.concatenate([np.tile(words, (rows, 1)), inputs["token_ids"]], axis=1).astype("int32"),
        "padding_mask": np.concatenate([np.ones((rows, 3)), inputs["padding_mask"]], axis=1).astype("int32"),
    }
    found = outputs_of(model, inputs)
    with model.disabled():
        expected = outputs_of(model, longer)[:, 3:]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_starts():
    table = models.values(models.distilbert())[0]
    vocabulary = adapted(keras_peft.PromptTuning(tokens=6, initialization="vocabulary"))
    table = next(v for v in models.values(vocabulary.base) if v.shape == (WORDS, DIM))
    for row in vocabulary.adapter_tensors()[KEY]:
        assert (np.abs(table - row).max(axis=1) == 0).any()
    random = adapted(keras_peft.PromptTuning(tokens=500, initialization="random"))
    table = next(v for v in models.values(random.base) if v.shape == (WORDS, DIM))
    assert random.adapter_tensors()[KEY].std() == pytest.approx(table.std(), rel=0.1)


def test_a_text_is_read_by_the_tokenizer_repeated_and_cut():
    method = keras_peft.PromptTuning(tokens=5, initialization="text", text="two words")
    with pytest.raises(OptionError, match="is not tokenised"):
        adapted(method)
    read = method.reads(lambda text: {"two words": [3, 4]}[text])
    assert read.token_ids == (3, 4)
    model = adapted(read)
    table = next(v for v in models.values(model.base) if v.shape == (WORDS, DIM))
    np.testing.assert_array_equal(model.adapter_tensors()[KEY], table[[3, 4, 3, 4, 3]])
    with pytest.raises(OptionError, match="contains no token"):
        method.reads(lambda text: [])
    with pytest.raises(OptionError, match=r"has 50 tokens, got the ids \[99\]"):
        adapted(keras_peft.PromptTuning(initialization="text", token_ids=(3, 99)))


def test_options_have_to_go_together():
    with pytest.raises(OptionError, match="`text` require each other"):
        keras_peft.PromptTuning(initialization="text")
    with pytest.raises(OptionError, match="`text` require each other"):
        keras_peft.PromptTuning(text="words")


def test_where_it_has_no_place():
    with pytest.raises(AdapterError, match="exceed the 24 positions"):
        model = adapted(keras_peft.PromptTuning(tokens=15))
        model(models.inputs_of(model.base))
    with pytest.raises(AdapterError, match="called more than once"):
        model = keras_peft.adapt(models.albert(), keras_peft.PromptTuning(tokens=3))
        outputs = model(models.inputs_of(model.base))
        assert outputs is not None
    with pytest.raises(SelectionError, match=r"must act on the whole base model.*layers='all'"):
        adapted(keras_peft.PromptTuning(), layers="last:1")
    with pytest.raises(SelectionError, match="has nothing to train"):
        keras_peft.adapt(models.vit(), keras_peft.PromptTuning())
