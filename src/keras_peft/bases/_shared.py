"""Layer names and encoders that many KerasHub architectures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# KerasHub's TransformerEncoder and TransformerDecoder, which use Keras's own attention.
TRANSFORMER = {
    r"token_embedding": "embedding.token",
    r"position_embedding": "embedding.position",
    r"segment_embedding": "embedding.segment",
    r"transformer_layer_\d+": "block",
    r"feedforward_intermediate_dense": "ffn.up",
    r"feedforward_output_dense": "ffn.down",
}
# Llama and its relatives, each with its own attention and norm classes.
GATED_DECODER = {
    **TRANSFORMER,
    r"transformer_layer_\d+/(self_)?attention": "attention",
    r"(self_)?attention/query": "attention.query",
    r"(self_)?attention/key": "attention.key",
    r"(self_)?attention/value": "attention.value",
    r"(self_)?attention/attention_output": "attention.output",
    r"feedforward_gate_dense": "ffn.gate",
    r"\w*layernorm": "norm",
}


def itself(backbone: keras.Model) -> keras.Model:
    """Returns the backbone itself, which already has an encoder's inputs and output."""
    return backbone


def single_text_encoder(backbone: keras.Model) -> keras.Model:
    """Builds an encoder of single texts from a backbone with segments; all segment ids are 0.

    Args:
        backbone: A KerasHub backbone that takes `segment_ids` and returns a `sequence_output`.

    Returns:
        A model from {token_ids, padding_mask}, both (batch, length) int32, to (batch, length, dim).
    """
    import keras

    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="int32", name="padding_mask")
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
    outputs = backbone({**inputs, "segment_ids": keras.ops.zeros_like(token_ids)})
    return keras.Model(inputs, outputs["sequence_output"], name=f"{backbone.name}_encoder")
