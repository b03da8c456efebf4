"""Qwen 2 and 2.5: Yang et al. 2024, https://arxiv.org/abs/2407.10671 and https://arxiv.org/abs/2412.15115."""

from __future__ import annotations

from dataclasses import replace

from keras_peft.bases import llama
from keras_peft.bases._shared import GATED_DECODER

MODEL_TYPE = "qwen2"
BACKBONE = "QwenBackbone"
ROLES = GATED_DECODER
CHECKPOINT = replace(llama.CHECKPOINT, classes="Qwen2")
