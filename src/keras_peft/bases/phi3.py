"""Phi-3: Abdin et al. 2024, https://arxiv.org/abs/2404.14219."""

from __future__ import annotations

from keras_peft.bases._shared import GATED_DECODER

MODEL_TYPE = "phi3"
BACKBONE = "Phi3Backbone"
ROLES = GATED_DECODER
