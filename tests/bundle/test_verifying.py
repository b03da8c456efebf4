"""A bundle whose logits differ after loading is not written."""

from __future__ import annotations

import pytest
from safetensors.numpy import load_file

import keras_peft
from conftest import TINY
from keras_peft import sources
from keras_peft.errors import BundleError

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


def test_a_bundle_that_answers_otherwise_is_not_written(tmp_path, data, monkeypatch):
    load = sources.load

    def other(name):
        base = load(name)
        weights = base.encoder.get_weights()
        base.encoder.set_weights([2 * weights[0], *weights[1:]])
        return base

    calls = iter([load, other])
    monkeypatch.setattr(sources, "load", lambda name: next(calls)(name))
    with pytest.raises(
        BundleError, match=r"The bundle was not written: when loaded again, its logits differ by"
    ) as raised:
        keras_peft.fine_tune(data, out=tmp_path / "bundle", base=str(TINY), epochs=1)
    assert not (tmp_path / "bundle").exists()
    kept = str(raised.value).split("were saved, as ")[1].rstrip(".")
    assert "head/logits/kernel" in load_file(kept)
