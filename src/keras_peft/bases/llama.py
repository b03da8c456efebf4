"""Llama 1 and 2: Touvron et al. 2023, https://arxiv.org/abs/2302.13971 and https://arxiv.org/abs/2307.09288."""

from __future__ import annotations

from keras_peft.bases._shared import GATED_DECODER

MODEL_TYPE = "llama"
BACKBONE = "LlamaBackbone"
ROLES = GATED_DECODER
