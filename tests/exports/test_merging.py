"""Merging a bundle into its base: the preset, its tokenizer and the classifier, and what cannot be merged."""

from __future__ import annotations

import json
import shutil

import keras
import keras_hub
import numpy as np
import pytest

import keras_peft
from conftest import REFERENCE, TINY
from contract.laws import make
from keras_peft import merging, methods, sources
from keras_peft.errors import AdapterError, BundleError
from keras_peft.exports._texts import SENTENCES
from sampling import sample
from serve.bundles import write_bundle

pytestmark = pytest.mark.eager

METHODS = [methods.find(name) for name in methods.names()]
OTHERS = [method.name for method in METHODS if not method.merges]
TEXTS = ["the model and the model", "people about people what people", "you"]


def vectors(backbone, classifier):
    tokens = classifier._encoder(TEXTS)
    return keras.ops.convert_to_numpy(backbone(tokens.batch(np.arange(len(TEXTS)))))


@pytest.fixture(scope="module")
def merged(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged") / "merged"
    made = keras_peft.merge(bundle, out=folder)
    assert made.verification.max_abs_logit_difference < 1e-5
    return folder


def test_the_folder_is_a_preset_of_the_merged_base(bundle, merged):
    classifier = keras_peft.load(bundle, engine="keras")
    classifier.model.merge()
    backbone = keras_hub.models.Backbone.from_preset(str(merged))
    assert type(backbone) is keras_hub.models.DistilBertBackbone
    # The bundle's head reads the first token only, so its last block computes no others.
    found = vectors(backbone, classifier)[:, :1]
    np.testing.assert_allclose(found, vectors(classifier.model.base, classifier), atol=1e-5)
    base = keras_peft.load(bundle, engine="keras").model.detach()
    assert np.abs(found - vectors(base, classifier)[:, :1]).max() > 1e-4


def test_its_tokenizer_gives_the_tokens_of_the_bundle(bundle, merged):
    tokenizer = keras_hub.models.Tokenizer.from_preset(str(merged))
    encoder = keras_peft.load(bundle)._encoder
    for text in TEXTS:
        row = encoder([text]).batch(np.arange(1))["token_ids"][0]
        assert [int(token) for token in tokenizer(text)] == row[1:-1].tolist()
    counted = json.loads((merged / "keras_peft.json").read_text())["tokenizer"]
    assert counted == {"texts": len(SENTENCES), "same": len(SENTENCES)}
    assert "other tokens" not in (merged / "README.md").read_text()


def test_other_tokens_are_counted(tmp_path, monkeypatch):
    right = merging._tokenizer

    def without_accents(content, name):
        return right({**content, "normalizer": {"lowercase": True, "strip_accents": False}}, name)

    monkeypatch.setattr(merging, "_tokenizer", without_accents)
    keras_peft.merge(write_bundle(tmp_path / "bundle"), out=tmp_path / "out")
    counted = json.loads((tmp_path / "out" / "keras_peft.json").read_text())["tokenizer"]
    others = counted["texts"] - counted["same"]
    assert others > 0
    said = f"other tokens than the bundle's for {others} of {counted['texts']} texts"
    assert said in (tmp_path / "out" / "README.md").read_text()


def test_its_classifier_is_the_bundle(bundle, merged):
    classifier = keras_peft.load(bundle, engine="keras")
    model = keras.saving.load_model(merged / "classifier" / "model.keras")
    logits = model(classifier._encoder(TEXTS).batch(np.arange(len(TEXTS))))
    zeros = np.zeros(2, np.float32)
    expected = sum(classifier.task.to_plain(classifier.outputs(TEXTS), zeros))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(logits), expected, atol=1e-5)


def test_it_is_a_base_to_train_on(merged, bundle):
    base = sources.load(str(merged))
    assert (base.architecture, base.max_length) == ("distilbert", sources.load(str(TINY)).max_length)
    with pytest.raises(BundleError, match="an export for keras-hub, which other programs run"):
        keras_peft.load(merged)


@pytest.mark.thorough
def test_what_trains_the_base_is_merged(tmp_path):
    folder = write_bundle(tmp_path / "bundle", keras_peft.BitFit())
    assert keras_peft.merge(folder, out=tmp_path / "out").verification.max_abs_logit_difference < 2e-5


@pytest.mark.parametrize("name", sample(OTHERS, "prefix"))
def test_what_does_not_merge_is_refused(name, tmp_path):
    folder = write_bundle(tmp_path / "bundle", make(methods.find(name)))
    with pytest.raises(AdapterError, match=f"bundle cannot be merged: {name} cannot be merged into the base"):
        keras_peft.merge(folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def checkpoint(folder, **changes):
    """A RoBERTa whose config.json was changed."""
    shutil.copytree(REFERENCE / "roberta", folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_roberta_becomes_a_preset_of_its_class(tmp_path):
    base = checkpoint(tmp_path / "base", layer_norm_eps=1e-5)
    folder = write_bundle(tmp_path / "bundle", on=base)
    keras_peft.merge(folder, out=tmp_path / "out")
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "out"))
    assert type(backbone) is keras_hub.models.RobertaBackbone
    tokenizer = keras_hub.models.Tokenizer.from_preset(str(tmp_path / "out"))
    assert type(tokenizer) is keras_hub.models.RobertaTokenizer
    counted = json.loads((tmp_path / "out" / "keras_peft.json").read_text())["tokenizer"]
    assert counted["same"] > 0.9 * counted["texts"]


def test_norms_that_kerashub_has_not_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle", on=checkpoint(tmp_path / "base", layer_norm_eps=0.01))
    with pytest.raises(AdapterError, match=r"gelu and the epsilon of its norms 0.01; .* `format='keras'`"):
        keras_peft.merge(folder, out=tmp_path / "out")


@pytest.mark.thorough
def test_a_preset_stays_a_preset_of_its_class(tmp_path):
    from core.models import bert

    preset = tmp_path / "preset"
    bert().save_to_preset(str(preset))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    keras_hub.models.BertTokenizer(words, lowercase=True).save_to_preset(str(preset))
    folder = write_bundle(tmp_path / "bundle", on=str(preset), max_length=24)
    keras_peft.merge(folder, out=tmp_path / "out")
    kind = type(keras_hub.models.Backbone.from_preset(str(tmp_path / "out")))
    assert kind is keras_hub.models.BertBackbone


def test_without_kerashubs_tokenizer_there_is_none(bundle, tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ImportError("tensorflow-text")

    monkeypatch.setattr(merging, "_tokenizer", missing)
    keras_peft.merge(bundle, out=tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer.json").exists()
    assert "Tokenizer.from_preset" not in (tmp_path / "out" / "README.md").read_text()


def test_a_preset_that_differs_is_not_written(bundle, tmp_path, monkeypatch):
    right = keras_hub.models.Backbone.from_preset

    def wrong(*args, **kwargs):
        backbone = right(*args, **kwargs)
        backbone.weights[0].assign_add(np.random.default_rng(0).normal(size=backbone.weights[0].shape))
        return backbone

    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", wrong)
    with pytest.raises(BundleError, match="the vectors of the preset, loaded again, differ by up to"):
        keras_peft.merge(bundle, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_exports_are_overwritten(bundle, merged, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(BundleError, match="is not an export of keras-peft, so it is not overwritten"):
        keras_peft.merge(bundle, out=tmp_path / "mine", overwrite=True)
    with pytest.raises(BundleError, match="exists; choose another `out`"):
        keras_peft.merge(bundle, out=merged)


def test_the_command_line(bundle, command_line, tmp_path):
    code, out, err = command_line("merge", bundle, "--out", "merged")
    assert (code, out.startswith("merged: a KerasHub preset with a Keras classifier")) == (0, True), err
    code, _, err = command_line("merge", bundle, "--out", "merged")
    assert code == 2
    assert "replace it with --overwrite" in err
