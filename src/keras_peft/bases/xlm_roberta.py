"""XLM-RoBERTa: Conneau et al. 2019, https://arxiv.org/abs/1911.02116. Its layers and names are RoBERTa's."""

from __future__ import annotations

from dataclasses import replace

from keras_peft.bases import roberta
from keras_peft.bases.roberta import ROLES, encoder, from_checkpoint, max_length, to_distilbert

__all__ = [
    "BACKBONE",
    "CHECKPOINT",
    "MODEL_TYPE",
    "ROLES",
    "encoder",
    "from_checkpoint",
    "max_length",
    "to_distilbert",
]

MODEL_TYPE = "xlm-roberta"
BACKBONE = "XLMRobertaBackbone"
NORMS_AFTER = True
CHECKPOINT = replace(roberta.CHECKPOINT, classes="XLMRoberta")
