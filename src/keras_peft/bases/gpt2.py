"""GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

from __future__ import annotations

from keras_peft.bases._checkpoint import CheckpointNames
from keras_peft.bases._shared import TRANSFORMER

MODEL_TYPE = "gpt2"
BACKBONE = "GPT2Backbone"
ROLES = TRANSFORMER
CHECKPOINT = CheckpointNames(
    classes="GPT2",
    prefix="transformer",
    outside={"wte": "token_embedding", "wpe": "position_embedding", "ln_f": "layer_norm"},
    blocks="h",
    inside={
        "attn.c_proj": "self_attention/attention_output",
        "mlp.c_fc": "feedforward_intermediate_dense",
        "mlp.c_proj": "feedforward_output_dense",
        "ln_1": "self_attention_layer_norm",
        "ln_2": "feedforward_layer_norm",
    },
    fused={"attn.c_attn": ("self_attention/query", "self_attention/key", "self_attention/value")},
    is_transposed=True,
)
