"""Llama 1 and 2: Touvron et al. 2023.

https://arxiv.org/abs/2302.13971 and https://arxiv.org/abs/2307.09288
"""

from __future__ import annotations

from keras_peft.bases._checkpoint import CheckpointNames
from keras_peft.bases._shared import GATED_DECODER

MODEL_TYPE = "llama"
BACKBONE = "LlamaBackbone"
ROLES = GATED_DECODER
CHECKPOINT = CheckpointNames(
    classes="Llama",
    prefix="model",
    outside={"embed_tokens": "token_embedding", "norm": "sequence_output_layernorm"},
    blocks="layers",
    inside={
        "self_attn.q_proj": "self_attention/query",
        "self_attn.k_proj": "self_attention/key",
        "self_attn.v_proj": "self_attention/value",
        "self_attn.o_proj": "self_attention/attention_output",
        "mlp.gate_proj": "feedforward_gate_dense",
        "mlp.up_proj": "feedforward_intermediate_dense",
        "mlp.down_proj": "feedforward_output_dense",
        "input_layernorm": "self_attention_layernorm",
        "post_attention_layernorm": "feedforward_layernorm",
    },
)
