"""Small models of the kinds that users adapt."""

from __future__ import annotations

import keras
import keras_hub
import numpy as np


def distilbert(*, layers: int = 3, dropout: float = 0.0) -> keras.Model:
    """KerasHub's DistilBERT with random weights."""
    return keras_hub.models.DistilBertBackbone(
        vocabulary_size=50,
        num_layers=layers,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=24,
        dropout=dropout,
    )


def small_distilbert() -> keras.Model:
    """DistilBERT with two blocks."""
    return distilbert(layers=2)


def distilbert_classifier() -> keras.Model:
    """KerasHub's DistilBERT classifier with random weights."""
    return keras_hub.models.DistilBertTextClassifier(distilbert(), num_classes=3)


_ENCODER = {
    "vocabulary_size": 50,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "max_sequence_length": 24,
    "dropout": 0.0,
}
_DECODER = {
    "vocabulary_size": 50,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
}


def bert() -> keras.Model:
    """KerasHub's BERT with random weights, like all models below."""
    return keras_hub.models.BertBackbone(**_ENCODER)


def roberta() -> keras.Model:
    return keras_hub.models.RobertaBackbone(**_ENCODER)


def xlm_roberta() -> keras.Model:
    return keras_hub.models.XLMRobertaBackbone(**_ENCODER)


def albert(*, groups: int = 1, repetitions: int = 1) -> keras.Model:
    """ALBERT, which calls the layers of each group four times."""
    options = {**_ENCODER, "num_layers": 4 * groups}
    return keras_hub.models.AlbertBackbone(
        **options, embedding_dim=8, num_groups=groups, num_inner_repetitions=repetitions
    )


def deberta_v3() -> keras.Model:
    return keras_hub.models.DebertaV3Backbone(**_ENCODER, bucket_size=8)


def electra() -> keras.Model:
    options = dict(_ENCODER)
    return keras_hub.models.ElectraBackbone(
        vocab_size=options.pop("vocabulary_size"), **options, embedding_dim=8
    )


def gpt2(*, words: int = 50) -> keras.Model:
    return keras_hub.models.GPT2Backbone(**{**_ENCODER, "vocabulary_size": words})


def gemma(*, words: int = 50) -> keras.Model:
    """Gemma with the norms that Gemma 2 added."""
    return keras_hub.models.GemmaBackbone(
        **{**_DECODER, "vocabulary_size": words},
        head_dim=4,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
    )


def gemma3() -> keras.Model:
    return keras_hub.models.Gemma3Backbone(
        **_DECODER, head_dim=4, image_size=8, use_post_ffw_norm=True, use_post_attention_norm=True
    )


def llama() -> keras.Model:
    return keras_hub.models.LlamaBackbone(**_DECODER)


def llama3() -> keras.Model:
    return keras_hub.models.Llama3Backbone(**_DECODER)


def mistral() -> keras.Model:
    return keras_hub.models.MistralBackbone(**_DECODER)


def qwen() -> keras.Model:
    return keras_hub.models.QwenBackbone(**_DECODER)


def qwen3() -> keras.Model:
    return keras_hub.models.Qwen3Backbone(**_DECODER, head_dim=4)


def phi3() -> keras.Model:
    return keras_hub.models.Phi3Backbone(**_DECODER)


def smollm3() -> keras.Model:
    """SmolLM3 with rotary positions in the first block only."""
    options = dict(_DECODER)
    return keras_hub.models.SmolLM3Backbone(
        num_attention_heads=options.pop("num_query_heads"),
        **options,
        attention_bias=False,
        attention_dropout=0.0,
        rope_layer_enabled_list=[True, False],
        layer_types=["full_attention"] * 2,
        mlp_bias=False,
        layer_norm_epsilon=1e-6,
        max_position_embeddings=24,
        rope_theta=10000.0,
        partial_rotary_factor=1.0,
    )


def vit(*, layers: int = 2) -> keras.Model:
    return keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 3), patch_size=4, num_layers=layers, num_heads=2, hidden_dim=16, mlp_dim=32
    )


def gpt2_lm() -> keras.Model:
    return keras_hub.models.GPT2CausalLM(gpt2())


def gemma_lm() -> keras.Model:
    return keras_hub.models.GemmaCausalLM(gemma())


def llama_lm() -> keras.Model:
    return keras_hub.models.LlamaCausalLM(llama())


def qwen3_lm() -> keras.Model:
    return keras_hub.models.Qwen3CausalLM(qwen3())


def smollm3_lm() -> keras.Model:
    return keras_hub.models.SmolLM3CausalLM(smollm3())


def functional() -> keras.Model:
    """A hand-written Functional encoder with repeated blocks, a batch norm and dropout."""
    inputs = keras.Input((8, 16))
    x = inputs
    for number in range(3):
        attended = keras.layers.MultiHeadAttention(2, 8, name=f"attention_{number}")(x, x)
        x = keras.layers.LayerNormalization(name=f"norm_{number}")(x + attended)
        x = x + keras.layers.Dense(16, activation="gelu", name=f"dense_{number}")(x)
    x = keras.layers.BatchNormalization(name="batch_norm")(x)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    x = keras.layers.Dropout(0.1, name="drop")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(x))


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A hand-written subclassed model."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(12, activation="relu", name="first")
        self.second = keras.layers.Dense(3, name="second")

    def call(self, inputs):
        return self.second(self.first(inputs))


class Block(keras.layers.Layer):
    """A block of a hand-written encoder: attention, then two dense layers."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.attention = keras.layers.MultiHeadAttention(2, 8, name="attention")
        self.first_norm = keras.layers.LayerNormalization(name="first_norm")
        self.up = keras.layers.Dense(32, activation="relu", name="up")
        self.down = keras.layers.Dense(16, name="down")
        self.second_norm = keras.layers.RMSNormalization(name="second_norm")

    def call(self, x, padding_mask):
        x = self.first_norm(x + self.attention(x, x, attention_mask=padding_mask[:, None, :]))
        return self.second_norm(x + self.down(self.up(x)))


class Handwritten(keras.Model):
    """A hand-written subclassed encoder, with a batch norm and dropout."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.words = keras.layers.Embedding(50, 16, name="words")
        self.drop = keras.layers.Dropout(0.1, name="drop")
        self.blocks = [Block(name=f"block_{number}") for number in range(2)]
        self.average = keras.layers.BatchNormalization(name="average")

    def call(self, inputs):
        x = self.drop(self.words(inputs["token_ids"]))
        for block in self.blocks:
            x = block(x, padding_mask=inputs["padding_mask"])
        return self.average(x)


HANDWRITTEN_ROLES = {
    r"words": "embedding.token",
    r"block_\d+": "block",
    r"block_\d+/up": "ffn.up",
    r"block_\d+/down": "ffn.down",
}


def handwritten() -> keras.Model:
    """The hand-written encoder, built."""
    model = Handwritten()
    model(inputs_of(model))
    return model


def subclassed() -> keras.Model:
    """The subclassed model, built."""
    model = Subclassed()
    model(np.zeros((1, 8), "float32"))
    return model


def inputs_of(model: keras.Model, rows: int = 4) -> object:
    """Random inputs for one of these models."""
    generator = np.random.default_rng(0)
    if isinstance(model, Subclassed):
        return generator.normal(size=(rows, 8)).astype("float32")
    if isinstance(model, Handwritten) or isinstance(model.input, dict):
        mask = np.ones((rows, 10), "int32")
        mask[1, 6:] = 0
        inputs = {"token_ids": generator.integers(0, 50, (rows, 10)).astype("int32"), "padding_mask": mask}
        if not isinstance(model, Handwritten) and "segment_ids" in model.input:
            inputs["segment_ids"] = np.repeat([[0] * 5 + [1] * 5], rows, axis=0).astype("int32")
        return inputs
    if len(model.input.shape) == 4:
        return generator.normal(size=(rows, *model.input.shape[1:])).astype("float32")
    return generator.normal(size=(rows, 8, 16)).astype("float32")


def values(model: keras.Model) -> list[np.ndarray]:
    """Copies of a model's weights."""
    return [keras.ops.convert_to_numpy(variable) for variable in model.weights]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Returns whether two lists of arrays are equal, bit for bit."""
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
