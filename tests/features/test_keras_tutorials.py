"""The steps of tutorials on keras.io with small random models, in our own words.

A statement below a comment `# Instead of …:` replaces what the tutorial does. `make docs` lists these.
"""

from __future__ import annotations

import keras
import keras_hub
import numpy as np
import pytest
from keras import layers

import keras_peft
from core import models
from core.trying import MODE
from features.tiny_tokenizers import LINES, gemma_preprocessor, gpt2_preprocessor, word_tokenizer

pytestmark = pytest.mark.one_backend
TEXTS = LINES[:4]
LABELS = np.array([0, 1, 0, 1])


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.mark.slow
def test_gpt2_lora():
    """Parameter-efficient fine-tuning of GPT-2 with LoRA.

    https://keras.io/examples/nlp/parameter_efficient_finetuning_of_gpt2_with_lora/
    """
    import tensorflow as tf

    # The tutorial loads GPT2CausalLM.from_preset("gpt2_base_en").
    model = keras_hub.models.GPT2CausalLM(models.gpt2(words=30), preprocessor=gpt2_preprocessor())
    train = tf.data.Dataset.from_tensor_slices(LINES).batch(2)

    # Instead of writing a `LoraLayer`, and replacing the query and value projections of each block by it:
    lora_model = keras_peft.adapt(model, keras_peft.LoRA(rank=4, alpha=32.0))
    optimizer = keras.optimizers.AdamW(learning_rate=5e-3, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    lora_model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
        jit_compile=MODE,
    )
    lora_model.summary(print_fn=lambda _: None)
    history = lora_model.fit(train, epochs=3, verbose=0, shuffle=False).history
    assert history["loss"][-1] < history["loss"][0]

    prompt, most = "a small", 14
    adapted = lora_model.generate(prompt, max_length=most)
    # Instead of adding the product of both LoRA layers to each kernel, and putting the original layers back:
    lora_model.merge()
    assert lora_model.generate(prompt, max_length=most)[: len(prompt)] == adapted[: len(prompt)] == prompt


@pytest.mark.slow
def test_gemma_lora():
    """Fine-tune Gemma models in Keras using LoRA.

    https://ai.google.dev/gemma/docs/core/lora_tuning
    """
    # The tutorial loads GemmaCausalLM.from_preset("gemma2_instruct_2b_en").
    model = keras_hub.models.GemmaCausalLM(models.gemma(words=40), preprocessor=gemma_preprocessor())
    data = [f"Instruction:\n{line}\n\nResponse:\n{line}" for line in LINES]

    # Instead of `gemma_lm.backbone.enable_lora(rank=4)`:
    model = keras_peft.adapt(model, keras_peft.LoRA(rank=4))
    model.summary(print_fn=lambda _: None)
    model.preprocessor.sequence_length = 16
    optimizer = keras.optimizers.AdamW(learning_rate=5e-3, weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale"])
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=optimizer,
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
        sampler="greedy",
        jit_compile=MODE,
    )
    history = model.fit(data, epochs=2, batch_size=2, verbose=0, shuffle=False).history
    assert history["loss"][-1] < history["loss"][0]
    assert model.generate("Instruction:\na small model\n\nResponse:\n", max_length=16)


@keras.saving.register_keras_serializable("tests")
class TransformerBlock(layers.Layer):
    """Attention and a feed-forward network, each with a residual connection and a norm."""

    def __init__(self, dim, heads, hidden, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(heads, dim)
        self.network = keras.Sequential([layers.Dense(hidden, activation="relu"), layers.Dense(dim)])
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self.drops = [layers.Dropout(0.1), layers.Dropout(0.1)]

    def call(self, x):
        x = self.norms[0](x + self.drops[0](self.attention(x, x)))
        return self.norms[1](x + self.drops[1](self.network(x)))


def test_text_classification_with_a_transformer():
    """Text classification with Transformer.

    https://keras.io/examples/nlp/text_classification_with_transformer/
    """
    generator = np.random.default_rng(0)
    x, y = generator.integers(1, 40, (16, 10)), np.arange(16) % 2

    def classifier():
        inputs = keras.Input((10,), dtype="int32")
        positions = keras.ops.arange(10)
        hidden = layers.Embedding(40, 16)(inputs) + layers.Embedding(10, 16)(positions)
        hidden = TransformerBlock(16, 2, 32, name="block")(hidden)
        hidden = layers.GlobalAveragePooling1D()(hidden)
        hidden = layers.Dropout(0.1)(layers.Dense(20, activation="relu", name="pooled")(hidden))
        return keras.Model(inputs, layers.Dense(2, activation="softmax", name="classes")(hidden))

    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=MODE)
    model.fit(x, y, verbose=0)

    # Instead of training a new model for each task:
    adapted = keras_peft.adapt(
        model, keras_peft.LoRA(rank=4), targets="all-linear", roles={"classes": "head"}
    )
    adapted.compile(
        keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=MODE
    )
    history = adapted.fit(x, 1 - y, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert {site.role for site in adapted.plan.sites} >= {"attention.query", "attention.output", "head", None}


@pytest.mark.slow
def test_transfer_learning_with_a_kerashub_classifier():
    """Getting started with KerasHub.

    https://keras.io/keras_hub/getting_started/
    """
    import tensorflow as tf

    # The tutorial loads BertTextClassifier.from_preset("bert_tiny_en_uncased", num_classes=2).
    preprocessor = keras_hub.models.DistilBertTextClassifierPreprocessor(word_tokenizer(), sequence_length=8)
    classifier = keras_hub.models.DistilBertTextClassifier(
        models.distilbert(layers=2), num_classes=2, preprocessor=preprocessor
    )
    train = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2)

    # Instead of training all weights:
    classifier = keras_peft.adapt(classifier, keras_peft.LoRA(rank=4))
    classifier.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.Adam(1e-2),
        jit_compile=MODE,
    )
    history = classifier.fit(train, validation_data=train, epochs=4, verbose=0, shuffle=False).history
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert classifier.predict(["a small model"], verbose=0).shape == (1, 2)


@pytest.mark.slow
def test_a_backbone_with_a_head_of_ones_own():
    """Getting started with KerasHub, the part on a backbone.

    https://keras.io/keras_hub/getting_started/
    """
    backbone = models.distilbert(layers=2)
    tokens = keras_hub.models.DistilBertTextClassifierPreprocessor(word_tokenizer(), sequence_length=8)(TEXTS)
    vectors = keras.Input((None, 16))
    head = keras.Model(vectors, layers.Dense(2, name="logits")(layers.Dropout(0.1)(vectors[:, 0])))

    # Instead of `backbone.trainable = False`, and a Functional model of backbone and head:
    model = keras_peft.adapt(backbone, keras_peft.LoRA(rank=4), head=head)
    model.compile(
        keras.optimizers.Adam(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=MODE,
    )
    before = model.evaluate(tokens, LABELS, verbose=0)
    model.fit(tokens, LABELS, epochs=10, verbose=0)
    assert model.evaluate(tokens, LABELS, verbose=0) < before


@pytest.mark.slow
def test_image_classification_with_mobilenet():
    """Transfer learning and fine-tuning.

    https://keras.io/guides/transfer_learning/
    """
    # The guide loads Xception with the weights of ImageNet.
    base = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Rescaling(1 / 127.5, offset=-1)(layers.RandomFlip("horizontal")(inputs))
    hidden = layers.GlobalAveragePooling2D()(base(hidden))
    model = keras.Model(inputs, layers.Dense(1, name="dog")(layers.Dropout(0.2)(hidden)))
    images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype("float32")
    moving = [v for v in base.variables if "moving" in v.name]
    before = [keras.ops.convert_to_numpy(variable) for variable in moving]

    # Instead of `base_model.trainable = False`, and later `True` with a low learning rate; batch norms keep
    # their averages here too:
    model = keras_peft.adapt(
        model, keras_peft.LoRA(rank=4), targets=r"(project|expand)$|Conv_1$", roles={"dog": "head"}
    )
    model.compile(
        keras.optimizers.Adam(1e-2), keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=MODE
    )
    history = model.fit(images, np.arange(8) % 2, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert len(model.adapters["default"].site_weights) == 34
    for variable, value in zip(moving, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.mark.slow
def test_image_classification_with_a_vision_transformer():
    """Image classification with KerasHub.

    https://keras.io/keras_hub/guides/classification_with_keras_hub/
    """
    # The guide loads ImageClassifier.from_preset("vit_base_patch16_224_imagenet", num_classes=2).
    classifier = keras_hub.models.ViTImageClassifier(models.vit(), num_classes=2)
    images, labels = models.inputs_of(models.vit(), rows=8), np.arange(8) % 2

    # Instead of training all weights:
    classifier = keras_peft.adapt(classifier, keras_peft.LoRA(rank=4))
    classifier.compile(
        keras.optimizers.AdamW(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=MODE,
    )
    history = classifier.fit(images, labels, epochs=4, verbose=0, shuffle=False).history
    assert history["loss"][-1] < history["loss"][0]
