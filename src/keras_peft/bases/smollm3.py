"""SmolLM3: Bakouch et al. 2025, https://huggingface.co/blog/smollm3."""

from __future__ import annotations

from keras_peft.bases._shared import TRANSFORMER

MODEL_TYPE = "smollm3"
BACKBONE = "SmolLM3Backbone"
ROLES = {
    **TRANSFORMER,
    r"self_attn": "attention",
    r"self_attn/q_proj": "attention.query",
    r"self_attn/k_proj": "attention.key",
    r"self_attn/v_proj": "attention.value",
    r"self_attn/o_proj": "attention.output",
    r"mlp/gate_proj": "ffn.gate",
    r"mlp/up_proj": "ffn.up",
    r"mlp/down_proj": "ffn.down",
}
