"""Qwen 3: Yang et al. 2025, https://arxiv.org/abs/2505.09388."""

from __future__ import annotations

from dataclasses import replace

from keras_peft.bases import llama
from keras_peft.bases._shared import GATED_DECODER

MODEL_TYPE = "qwen3"
BACKBONE = "Qwen3Backbone"
ROLES = GATED_DECODER
CHECKPOINT = replace(llama.CHECKPOINT, classes="Qwen3")
