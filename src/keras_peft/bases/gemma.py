"""Gemma 1 and 2: Gemma Team 2024, https://arxiv.org/abs/2403.08295 and https://arxiv.org/abs/2408.00118."""

from __future__ import annotations

from keras_peft.bases._checkpoint import CheckpointNames

MODEL_TYPE = "gemma"
BACKBONE = "GemmaBackbone"
ROLES = {
    r"token_embedding": "embedding.token",
    r"decoder_block_\d+": "block",
    r"decoder_block_\d+/attention": "attention",
    r"decoder_block_\d+/attention/query": "attention.query",
    r"decoder_block_\d+/attention/key": "attention.key",
    r"decoder_block_\d+/attention/value": "attention.value",
    r"decoder_block_\d+/attention/attention_output": "attention.output",
    r"ffw_gating": "ffn.gate",
    r"ffw_gating_2": "ffn.up",
    r"ffw_linear": "ffn.down",
    r"\w*_norm|final_normalization": "norm",
}
# The norms of a block are left out: Gemma 1 and 2 name them differently.
CHECKPOINT = CheckpointNames(
    classes="Gemma",
    prefix="model",
    outside={"embed_tokens": "token_embedding", "norm": "final_normalization"},
    blocks="layers",
    inside={
        "self_attn.q_proj": "attention/query",
        "self_attn.k_proj": "attention/key",
        "self_attn.v_proj": "attention/value",
        "self_attn.o_proj": "attention/attention_output",
        "mlp.gate_proj": "ffw_gating",
        "mlp.up_proj": "ffw_gating_2",
        "mlp.down_proj": "ffw_linear",
    },
    blocks_here="decoder_block",
)
