"""Mistral: Jiang et al. 2023, https://arxiv.org/abs/2310.06825."""

from __future__ import annotations

from dataclasses import replace

from keras_peft.bases import llama
from keras_peft.bases._shared import GATED_DECODER

MODEL_TYPE = "mistral"
BACKBONE = "MistralBackbone"
ROLES = GATED_DECODER
CHECKPOINT = replace(llama.CHECKPOINT, classes="Mistral")
