"""Qwen 3: Yang et al. 2025, https://arxiv.org/abs/2505.09388."""

from __future__ import annotations

from keras_peft.bases._shared import GATED_DECODER

MODEL_TYPE = "qwen3"
BACKBONE = "Qwen3Backbone"
ROLES = GATED_DECODER
