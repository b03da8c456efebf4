"""Explanations: the words that decide a prediction."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft import explanation as explanations
from keras_peft import tasks
from keras_peft.errors import DataError, OptionError

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, data):
    """A classifier that has learned the words "model" and "people", which takes more than two epochs."""
    folder = tmp_path_factory.mktemp("explained") / "bundle"
    keras_peft.fine_tune(
        data,
        out=folder,
        base=str(TINY),
        method=keras_peft.LoRA(rank=4),
        layers="all",
        epochs=14,
        frozen_precision="float32",  # gives the same training on every machine
        learning_rate=0.01,
        seed=3,
    )
    return keras_peft.load(folder)


def words_of(text):
    return [text[start:end] for start, end in explanations._words(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't stop!!! I’ve 3.5 models", ["don't", "stop", "!!!", "I’ve", "3.5", "models"]),
        (" a\n\tb(c)", ["a", "b", "(", "c", ")"]),
        ("我喜欢。", ["我", "喜", "欢", "。"]),
        ("カタカナ と ひらがな", ["カタカナ", "と", "ひらがな"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("👩‍👩‍👧 good👍🏽 e\u0301te\u0301", ["👩‍👩‍👧", "good", "👍🏽", "e\u0301te\u0301"]),
    ],
)
def test_words_of_many_scripts(text, words):
    assert words_of(text) == words


@given(st.text(max_size=60))
def test_words_hold_all_but_space(text):
    spans = explanations._words(text)
    assert all(start < end for start, end in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    kept = "".join(text[start:end] for start, end in spans)
    assert "".join(kept.split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("label", "text", "sign"),
    [("alpha", "the and model for you", "model"), ("beta", "people what about this", "people")],
)
def test_the_deciding_word_weighs_most(classifier, label, text, sign):
    (explanation,) = keras_peft.explain(classifier, [text], label=label)
    (word, weight), *_ = explanation.strongest()
    assert (word.text, explanation.label) == (sign, label)
    assert weight > 0


def test_weights_are_what_predict_says_without_each_word(classifier):
    text = "the model and, people!"
    (explanation,) = keras_peft.explain(classifier, [text])
    said = classifier.predict([text])[0]
    assert explanation.label == said.label
    assert explanation.probabilities == pytest.approx(said.probabilities, abs=1e-5)
    assert list(explanation.probabilities) == list(said.probabilities)
    assert [word.text for word in explanation.words] == ["the", "model", "and", ",", "people", "!"]
    others = ["model and, people!", "the and, people!", "the model, people!"]
    for word, other in zip(explanation.words, others, strict=False):
        without = classifier.predict([other])[0].probabilities[said.label]
        assert word.without == pytest.approx(without, abs=1e-5)
        fall = math.log(explanation.probability / (1 - explanation.probability)) - math.log(
            without / (1 - without)
        )
        assert word.weight == pytest.approx(fall, abs=1e-3)


@pytest.mark.parametrize("text", ["  the\n model,  people 我们 👍🏽 ", "model", "the model " * 150])
def test_offsets_and_pieces_give_the_text_again(classifier, text):
    (explanation,) = keras_peft.explain(classifier, [text])
    assert explanation.text == text.strip()
    assert all(explanation.text[word.start : word.end] == word.text for word in explanation.words)
    assert "".join(piece for piece, _ in explanation.pieces()) == explanation.text


def test_one_call_of_bounded_size_for_each_text(classifier, monkeypatch):
    calls = []
    whole = type(classifier).probabilities
    monkeypatch.setattr(
        type(classifier), "probabilities", lambda self, texts: calls.append(len(texts)) or whole(self, texts)
    )
    texts = ["the model", "the model and people " * 6]
    short, long = keras_peft.explain(classifier, texts, most_runs=10)
    assert calls == [3, 9]
    assert (short.run_length, long.run_length) == (1, 3)
    assert [word.text for word in long.words][:2] == ["the model and", "people the model"]


def test_what_is_cut_has_no_weight_and_does_not_move_up(classifier):
    most = classifier.bundle.content["max_length"]
    text = "the " * (most - 2) + "people model"
    (explanation,) = keras_peft.explain(classifier, [text], label="beta")
    assert explanation.unread == 2
    assert [word.text for word in explanation.words[-2:]] == ["people", "model"]
    assert explanation.words[-1].weight is explanation.words[-1].without is None
    # All words that are read are the same, so none has a large weight unless "people" moves up.
    assert max(abs(weight) for _, weight in explanation.strongest()) < 0.5


def test_both_texts_of_a_pair(tmp_path):
    rows = [
        {"text_a": row["text"], "text_b": "the and", "label": row["label"]} for row in make_rows(24, seed=3)
    ]
    data = write_jsonl(tmp_path / "pairs.jsonl", rows)
    keras_peft.fine_tune(
        data, out=tmp_path / "pairs", base=str(TINY), task="pairs", epochs=1, method=keras_peft.LinearProbe()
    )
    pair = ("the model", " and people for")
    (explanation,) = keras_peft.explain(keras_peft.load(tmp_path / "pairs"), [pair])
    assert explanation.texts == ("the model", "and people for")
    assert [(word.part, word.text) for word in explanation.words] == [
        (0, "the"),
        (0, "model"),
        (1, "and"),
        (1, "people"),
        (1, "for"),
    ]
    assert all(explanation.texts[word.part][word.start : word.end] == word.text for word in explanation.words)


def test_what_cannot_be_explained_is_said(classifier):
    with pytest.raises(
        OptionError, match=r"does not have the label 'alpah'.*Did you mean 'alpha'.*alpha, beta"
    ):
        keras_peft.explain(classifier, ["the model"], label="alpah")
    with pytest.raises(DataError, match="put it in a list"):
        keras_peft.explain(classifier, "the model")
    with pytest.raises(DataError, match="Texts 2 "):
        keras_peft.explain(classifier, ["the", " "])
    assert keras_peft.explain(classifier, []) == []


@pytest.mark.parametrize("name", ["single-label", "multi-label", "pairs", "regression", "token-labels"])
def test_tasks_with_probabilities_can_be_explained(name):
    task = tasks.find(name)(("a", "b"))
    if name in ("regression", "token-labels"):
        with pytest.raises(OptionError, match=f"{name} has no label probabilities"):
            explanations.check_explainable(task)
    else:
        explanations.check_explainable(task, "a")


def test_certainty_has_no_infinite_weight(classifier, monkeypatch):
    monkeypatch.setattr(
        type(classifier), "probabilities", lambda self, texts: np.array([[1.0, 0.0]] * len(texts))
    )
    (explanation,) = keras_peft.explain(classifier, ["the model"])
    assert [weight for _, weight in explanation.strongest()] == [0, 0]


def test_the_page_reports_when_the_classifier_abstains(classifier, monkeypatch):
    monkeypatch.setattr(classifier, "task", replace(classifier.task, abstain_below=0.99999))
    (withheld,) = keras_peft.explain(classifier, ["the model people"])
    assert withheld.is_withheld
    assert "The classifier abstains" in explanations.as_html([withheld], "my-bundle")
    monkeypatch.setattr(classifier, "task", replace(classifier.task, abstain_below=0.5))
    (said,) = keras_peft.explain(classifier, ["the model people"])
    assert not said.is_withheld
    assert "The classifier abstains" not in explanations.as_html([said], "my-bundle")


def test_the_page_escapes_and_says_it_without_colour(classifier):
    found = keras_peft.explain(classifier, ["the <b>model</b> & people"], label="alpha")
    page = explanations.as_html(found, "my-bundle")
    assert "<b>" not in page
    assert "&lt;" in page
    assert "<script" not in page
    assert '<mark class="for"' in page
    assert f"{found[0].strongest(1)[0][1]:+.2f}" in page
