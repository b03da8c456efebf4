"""DeBERTaV3: He et al. 2021, https://arxiv.org/abs/2111.09543."""

from __future__ import annotations

from keras_peft.bases._shared import TRANSFORMER, itself

MODEL_TYPE = "deberta-v2"
BACKBONE = "DebertaV3Backbone"
ROLES = {
    **TRANSFORMER,
    r"disentangled_attention_encoder_layer_\d+": "block",
    r"self_attention_layer": "attention",
    r"self_attention_layer/query": "attention.query",
    r"self_attention_layer/key": "attention.key",
    r"self_attention_layer/value": "attention.value",
    r"self_attention_layer/attention_output": "attention.output",
    r"pooled_dense": "head",
    r"logits": "head",
}
encoder = itself
