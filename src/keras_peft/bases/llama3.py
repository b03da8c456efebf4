"""Llama 3: Grattafiori et al. 2024, https://arxiv.org/abs/2407.21783. Its layers are Llama's."""

from __future__ import annotations

from keras_peft.bases.llama import CHECKPOINT, ROLES

__all__ = ["BACKBONE", "CHECKPOINT", "MODEL_TYPE", "ROLES"]

MODEL_TYPE = "llama"
BACKBONE = "Llama3Backbone"
