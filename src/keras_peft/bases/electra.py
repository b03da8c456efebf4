"""ELECTRA: Clark et al. 2020, https://arxiv.org/abs/2003.10555."""

from __future__ import annotations

from keras_peft.bases._shared import TRANSFORMER, single_text_encoder

MODEL_TYPE = "electra"
BACKBONE = "ElectraBackbone"
NORMS_AFTER = True
ROLES = TRANSFORMER
encoder = single_text_encoder
