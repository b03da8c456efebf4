"""Gemma 3: Gemma Team 2025, https://arxiv.org/abs/2503.19786. Its layers are named as Gemma's."""

from __future__ import annotations

from keras_peft.bases.gemma import ROLES

__all__ = ["BACKBONE", "MODEL_TYPE", "ROLES"]

MODEL_TYPE = "gemma3"
BACKBONE = "Gemma3Backbone"
