"""XLM-RoBERTa: Conneau et al. 2019, https://arxiv.org/abs/1911.02116. RoBERTa's layers."""

from __future__ import annotations

from keras_peft.bases.roberta import ROLES, encoder

__all__ = ["BACKBONE", "MODEL_TYPE", "ROLES", "encoder"]

MODEL_TYPE = "xlm-roberta"
BACKBONE = "XLMRobertaBackbone"
NORMS_AFTER = True
