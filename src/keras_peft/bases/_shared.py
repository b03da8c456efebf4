"""What KerasHub names alike in many architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# Its TransformerEncoder and TransformerDecoder, whose attention is Keras's own.
TRANSFORMER = {
    r"token_embedding": "embedding.token",
    r"position_embedding": "embedding.position",
    r"segment_embedding": "embedding.segment",
    r"transformer_layer_\d+": "block",
    r"feedforward_intermediate_dense": "ffn.up",
    r"feedforward_output_dense": "ffn.down",
}
# Llama and its relatives, each of which has its own attention and its own norm.
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
    """Returns the backbone: its inputs and output are the encoder's."""
    return backbone


def single_text_encoder(backbone: keras.Model) -> keras.Model:
    """Returns the encoder of a backbone with segments for single texts: every segment id is 0."""
    import keras

    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="int32", name="padding_mask")
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
    outputs = backbone({**inputs, "segment_ids": keras.ops.zeros_like(token_ids)})
    return keras.Model(inputs, outputs["sequence_output"], name=f"{backbone.name}_encoder")
