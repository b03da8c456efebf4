"""KerasHub's tasks keep what they are: raw strings, preprocessors, defaults and generation."""

from __future__ import annotations

import sys

import keras
import keras_hub
import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import MODE, shake
from features.tiny_tokenizers import LINES, gpt2_preprocessor, word_tokenizer
from keras_peft.errors import AdapterError

LORA = keras_peft.LoRA(rank=2, dropout=0.0)
# KerasHub's byte-pair tokenizer then fails in a traced function, with and without an adapter.
needs_tracing = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="TensorFlow's AutoGraph does not convert functions of Python 3.13"
)
TEXTS = ["a small model", "many people", "some time", "a model for people"]
LABELS = np.array([0, 1, 2, 1])


@pytest.fixture(scope="module")
def preprocessor():
    return keras_hub.models.DistilBertTextClassifierPreprocessor(word_tokenizer(), sequence_length=8)


@pytest.fixture
def classifier(preprocessor):
    """A KerasHub classifier with its preprocessor; small tests do not need compiled steps."""
    return keras_hub.models.DistilBertTextClassifier(
        models.distilbert(layers=2), num_classes=3, preprocessor=preprocessor
    )


@pytest.fixture
def language_model():
    return keras_hub.models.GPT2CausalLM(models.gpt2(words=30), preprocessor=gpt2_preprocessor())


@pytest.mark.feature("KerasHub tasks", "Raw strings in `fit`, `evaluate` and `predict`", "works")
@pytest.mark.feature("KerasHub tasks", "The default compilation", "works", "With the method's learning rate.")
def test_strings_train_without_a_compilation_of_ones_own(classifier):
    adapted = keras_peft.adapt(classifier, LORA, layers="last:1")
    assert adapted.compiled
    assert float(adapted.optimizer.learning_rate) == pytest.approx(LORA.learning_rate)
    before = adapted.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    assert set(before) == {"loss", "sparse_categorical_accuracy"}
    adapted.fit(TEXTS, LABELS, epochs=12, verbose=0, shuffle=False)
    assert adapted.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)["loss"] < before["loss"]
    logits = adapted.predict(TEXTS, verbose=0)
    tokens = adapted.preprocessor(TEXTS)
    np.testing.assert_allclose(logits, keras.ops.convert_to_numpy(adapted(tokens)), rtol=1e-4, atol=1e-5)


@pytest.mark.feature("KerasHub tasks", "Raw strings in a `tf.data.Dataset`", "works")
@pytest.mark.one_backend
def test_strings_in_a_dataset(classifier):
    import tensorflow as tf

    adapted = keras_peft.adapt(classifier, LORA)
    adapted.compile(run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2)
    history = adapted.fit(data, validation_data=data, verbose=0, shuffle=False).history
    assert "val_loss" in history
    assert adapted.predict(data.map(lambda text, _: text), verbose=0).shape == (4, 3)


@pytest.mark.feature(
    "KerasHub tasks", "`preprocessor`, `backbone`, `num_classes` and other attributes", "works"
)
def test_parts_of_the_task(classifier):
    adapted = keras_peft.adapt(classifier, LORA)
    assert adapted.backbone is classifier.backbone
    assert adapted.preprocessor is classifier.preprocessor
    assert adapted.num_classes == 3
    assert isinstance(adapted, keras_hub.models.TextClassifier)


@pytest.mark.feature("KerasHub tasks", "Your own `compile`", "works", "Also after `activate`, as in Keras.")
def test_an_own_compilation_is_kept_until_the_adapters_change(classifier):
    adapted = keras_peft.adapt(classifier, LORA)
    adapted.add_adapter("other", LORA)
    adapted.activate("other")
    assert adapted.compiled  # Still as by default.
    adapted.compile(keras.optimizers.SGD(0.5))
    assert float(adapted.optimizer.learning_rate) == 0.5
    adapted.activate("default")
    assert not adapted.compiled


@needs_tracing
@pytest.mark.feature("KerasHub tasks", "Raw strings with a different adapter per row", "works")
def test_strings_with_an_adapter_per_row(language_model):
    adapted = keras_peft.adapt(language_model, LORA, adapter="first")
    adapted.add_adapter("second", LORA)
    expected = {}
    for seed, name in enumerate(["first", "second"]):
        adapted.activate(name)
        shake(adapted, seed)
        adapted.compile(jit_compile=MODE)
        expected[name] = adapted.predict(LINES[:2], verbose=0)
    found = adapted.predict(LINES[:2], adapters=["second", "first"], verbose=0)
    np.testing.assert_allclose(found[0], expected["second"][0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1], expected["first"][1], rtol=1e-3, atol=1e-4)


@pytest.mark.feature("KerasHub tasks", "`compile(sampler=…)` and `generate` with strings", "works")
def test_a_language_model_generates_text(language_model):
    language_model.compile(sampler="greedy", jit_compile=MODE)
    sampler = language_model.sampler
    adapted = keras_peft.adapt(language_model, LORA)
    assert adapted.sampler is sampler  # The one that the base was compiled with.
    first = adapted.generate("a small", max_length=14, stop_token_ids=None)
    assert first.startswith("a small")
    shake(adapted, scale=3.0)
    changed = adapted.generate("a small", max_length=14, stop_token_ids=None)
    with adapted.disabled():
        assert adapted.generate("a small", max_length=14, stop_token_ids=None) == first
    assert adapted.generate("a small", max_length=14, stop_token_ids=None) == changed != first
    adapted.compile(sampler="top_k", jit_compile=MODE)
    assert isinstance(adapted.sampler, keras_hub.samplers.TopKSampler)


@needs_tracing
@pytest.mark.feature("KerasHub tasks", "Language models trained on raw strings", "works")
def test_a_language_model_learns_lines(language_model):
    adapted = keras_peft.adapt(language_model, LORA)
    adapted.compile(run_eagerly=keras.config.backend() == "tensorflow")
    losses = adapted.fit(LINES, batch_size=2, epochs=3, verbose=0, shuffle=False).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.feature(
    "KerasHub tasks",
    "`save_to_preset` of an adapted model",
    "refused",
    "It would leave out the adapters: `save_adapter`, or `merge_and_detach` first.",
)
def test_a_preset_without_adapters_is_refused(classifier, tmp_path):
    adapted = keras_peft.adapt(classifier, LORA)
    with pytest.raises(AdapterError, match=r"save_to_preset\(\) .*merge_and_detach\(\)"):
        adapted.save_to_preset(str(tmp_path / "preset"))


@pytest.mark.feature("KerasHub tasks", "`save_to_preset` after `merge_and_detach`", "works")
def test_a_merged_task_is_saved_as_a_preset(classifier, tmp_path):
    adapted = keras_peft.adapt(classifier, LORA)
    shake(adapted)
    expected = adapted.predict(TEXTS, verbose=0)
    adapted.merge_and_detach().save_to_preset(str(tmp_path / "preset"))
    loaded = keras_hub.models.TextClassifier.from_preset(str(tmp_path / "preset"))
    np.testing.assert_allclose(loaded.predict(TEXTS, verbose=0), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.feature("KerasHub tasks", "`save` as `.keras`, with the tokenizer", "works")
def test_a_task_with_its_tokenizer_is_saved(classifier, tmp_path):
    adapted = keras_peft.adapt(classifier, LORA)
    shake(adapted)
    expected = adapted.predict(TEXTS, verbose=0)
    adapted.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    np.testing.assert_allclose(loaded.predict(TEXTS, verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.feature("KerasHub tasks", "Image classifiers", "works", "On arrays of images.")
def test_an_image_classifier():
    backbone = models.vit()
    classifier = keras_hub.models.ViTImageClassifier(backbone, num_classes=2)
    adapted = keras_peft.adapt(classifier, LORA)
    adapted.compile(run_eagerly=keras.config.backend() == "tensorflow")
    images = models.inputs_of(backbone)
    losses = adapted.fit(images, np.arange(4) % 2, epochs=2, verbose=0, shuffle=False).history["loss"]
    assert losses[1] < losses[0]
