"""Loading bundles with tensors and bases that fit, and that do not fit."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_peft
from bundle.altering import reseal
from conftest import REFERENCE, TINY
from keras_peft.errors import BundleMismatch

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


@pytest.fixture
def copy(tmp_path, bundle):
    return shutil.copytree(bundle, tmp_path / "bundle")


def test_the_loaded_bundle_predicts_what_was_verified(bundle):
    first = keras_peft.load(bundle)
    second = keras_peft.load(bundle)
    texts = ["the model and the data", "people and work"]
    np.testing.assert_allclose(first.probabilities(texts), second.probabilities(texts), atol=1e-6)
    predictions = first.predict(texts)
    assert [sum(p.probabilities.values()) for p in predictions] == pytest.approx([1, 1])
    assert predictions[0].label == max(predictions[0].probabilities, key=predictions[0].probabilities.get)
    assert first.predict([]) == []


def test_tensors_that_do_not_fit(copy):
    path = copy / "adapter.safetensors"
    tensors = load_file(path)
    tensors.pop("head/logits/bias")
    tensors["head/logits/kernel"] = np.zeros((4, 2), "float32")
    tensors["head/other"] = np.zeros(1, "float32")
    save_file(tensors, path)
    reseal(copy)
    with pytest.raises(BundleMismatch) as raised:
        keras_peft.load(copy)
    for part in ("missing head/logits/bias", "expected (16, 2), got (4, 2)", "unexpected head/other"):
        assert part in str(raised.value)


def test_another_base_is_refused(bundle):
    with pytest.raises(BundleMismatch, match="was trained on the base model .* is a different one"):
        keras_peft.load(bundle, base=str(REFERENCE / "bert"))


def test_a_base_that_was_moved(copy, tmp_path):
    moved = shutil.copytree(TINY, tmp_path / "moved")
    text = ["the model"]
    here = keras_peft.load(copy).probabilities(text)
    np.testing.assert_allclose(keras_peft.load(copy, base=str(moved)).probabilities(text), here, atol=1e-6)


@pytest.mark.slow
def test_a_base_that_is_gone_is_asked_for(tmp_path, data):
    base = shutil.copytree(TINY, tmp_path / "base")
    keras_peft.fine_tune(data, out=tmp_path / "b", base=str(base), epochs=1)
    shutil.rmtree(base)
    with pytest.raises(
        keras_peft.KerasPeftError, match=r"needs its base model\..*set `base` to its location"
    ):
        keras_peft.load(tmp_path / "b")
