"""RoBERTa: Liu et al. 2019, https://arxiv.org/abs/1907.11692."""

from __future__ import annotations

from keras_peft.bases._shared import TRANSFORMER, itself

MODEL_TYPE = "roberta"
BACKBONE = "RobertaBackbone"
NORMS_AFTER = True
ROLES = {**TRANSFORMER, r"pooled_dense": "head", r"logits": "head"}
encoder = itself
