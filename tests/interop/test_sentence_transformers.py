"""Export for sentence-transformers and SetFit, and the refusals of heads that other formats cannot hold."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pytest

import keras_peft
from keras_peft import forms, sources
from keras_peft.errors import AdapterError, BundleError
from serve.bundles import write_bundle

pytestmark = pytest.mark.eager

TEXTS = ["the one", "a longer text of some more words"]
POOLED = {"pooling": "mean", "activation": None, "temperature": 2.0}


def vectors_of(folder, texts):
    """The pooled vectors of an exported encoder."""
    base = sources.load(str(folder))
    tokens = base.tokenizer
    encode = keras_peft.tasks.find("single-label").input.encoder(tokens, 32, long_text="cut")
    found = []
    for ids in encode(texts).ids:
        vectors = np.asarray(
            base.encoder({"token_ids": ids[None], "padding_mask": np.ones_like(ids)[None]}, training=False)
        )
        found.append(vectors[0].max(0) if base.pooling == "max" else vectors[0].mean(0))
    return np.stack(found)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("labels", [("alpha", "beta"), ("a", "b", "c")])
def test_the_head_says_what_the_bundle_says(tmp_path, labels, pooling):
    bundle = write_bundle(tmp_path / "b", labels=labels, options={**POOLED, "pooling": pooling})
    out = tmp_path / "out"
    made = forms.export(bundle, out=out, format="sentence-transformers")
    assert made.max_abs_logit_difference < 1e-4
    head = joblib.load(out / "model_head.pkl")
    expected = keras_peft.load(bundle).predict(TEXTS)
    for probabilities, prediction in zip(head.predict_proba(vectors_of(out, TEXTS)), expected, strict=True):
        said = dict(zip(labels, probabilities, strict=True))
        assert said == pytest.approx(prediction.probabilities, abs=1e-4)
    assert json.loads((out / "config_setfit.json").read_text())["labels"] == list(labels)
    with pytest.raises(BundleError, match="exists"):
        forms.export(bundle, out=out, format="sentence-transformers")
    forms.export(bundle, out=out, format="sentence-transformers", overwrite=True)


@pytest.mark.parametrize("name", ["hf-peft", "hf-model", "adapter-hub"])
def test_formats_that_read_the_first_token_refuse_a_mean(tmp_path, name):
    bundle = write_bundle(tmp_path / "b", options=POOLED)
    with pytest.raises(AdapterError, match="reads the mean of all vectors.*format='sentence-transformers'"):
        forms.export(bundle, out=tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


def test_other_heads_are_refused(tmp_path):
    bundle = write_bundle(tmp_path / "b")
    with pytest.raises(AdapterError, match="its head has two layers.*train with `pooling='mean'`"):
        forms.export(bundle, out=tmp_path / "out", format="sentence-transformers")
    bundle = write_bundle(tmp_path / "m", task="multi-label", options={"pooling": "mean", "activation": None})
    with pytest.raises(AdapterError, match="one label for one text, but the task is multi-label"):
        forms.export(bundle, out=tmp_path / "out", format="sentence-transformers")
