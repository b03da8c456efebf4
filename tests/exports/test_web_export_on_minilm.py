"""A trained classifier on the real default base: the page gives the tokens and labels of Python."""

from __future__ import annotations

import json

import numpy as np
import pytest

import keras_peft
from conftest import ROOT
from exports.web_pages import PREDICT, assert_same_tokens, in_python, opened, require_node_js
from keras_peft import forms


@pytest.mark.real
@pytest.mark.one_backend
def test_a_trained_classifier_gives_the_same_answers_in_the_browser(context, tmp_path):
    require_node_js()
    data = ROOT / "examples" / "conversations.jsonl"
    texts = [json.loads(line)["text"] for line in data.read_text().splitlines()]
    keras_peft.fine_tune(data, out=tmp_path / "bundle", validation=0.2, epochs=4)
    made = forms.export(tmp_path / "bundle", out=tmp_path / "site", format="web", data=data)
    assert made.verification.equal_answers >= 0.99
    classifier = keras_peft.load(tmp_path / "site")
    expected = classifier.probabilities(classifier.read_all(texts))
    with opened(context, tmp_path / "site") as page:
        assert_same_tokens(page, classifier._encoder, texts, classifier.read)
        found = [in_python(one) for one in page.evaluate(PREDICT, texts)]
    own = np.array([[one["probabilities"][label] for label in classifier.labels] for one in found])
    assert len(texts) == 240
    # The processor rounds at other places than WebAssembly, and the next layer rounds again.
    assert np.abs(own - expected).max() < 0.1
    assert np.abs(own - expected).mean() < 0.01
    assert (own.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.99
