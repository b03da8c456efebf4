"""RoBERTa: Liu et al. 2019, https://arxiv.org/abs/1907.11692.

For single texts and pairs a checkpoint is exactly a DistilBERT one, as BERT's are: it has one token type,
and counts positions from behind the row of its padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keras_peft.bases import bert, distilbert
from keras_peft.bases._checkpoint import TextHead
from keras_peft.bases._shared import TRANSFORMER, itself

if TYPE_CHECKING:
    import keras
    import numpy as np

MODEL_TYPE = "roberta"
BACKBONE = "RobertaBackbone"
NORMS_AFTER = True
ROLES = {**TRANSFORMER, r"pooled_dense": "head", r"logits": "head"}
CHECKPOINT = replace(
    bert.CHECKPOINT,
    classes="Roberta",
    prefix="roberta",
    text_head=TextHead(
        {"classifier.dense": "pooled_dense", "classifier.out_proj": "logits"}, "tanh", ("classifier",)
    ),
)
encoder = itself


def max_length(config: Mapping[str, Any]) -> int:
    """Returns the most tokens that a checkpoint reads, from its config.json."""
    return int(config["max_position_embeddings"]) - _first_position(config)


def to_distilbert(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Re-expresses a RoBERTa checkpoint as a DistilBERT one.

    Args:
        config: Hugging Face's config.json of a RoBERTa model.
        tensors: Its tensors, with or without the leading `roberta.`.

    Returns:
        The configuration and the tensors in DistilBERT's form, each of these read when it is asked for.

    Raises:
        BaseCorrupt: If tensors are missing.
        BaseError: If its positions are not those of a table.
    """
    first = _first_position(config)
    return bert.to_distilbert(config, tensors, checkpoint=CHECKPOINT, first_position=first)


def from_checkpoint(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> keras.Model:
    """Builds KerasHub's DistilBERT from a Hugging Face checkpoint of RoBERTa.

    Raises:
        BaseCorrupt: If tensors are missing or misshapen.
        BaseError: If the configuration asks for what is not computed here.
    """
    epsilon = float(config.get("layer_norm_eps", distilbert.EPSILON))
    return distilbert.from_checkpoint(*to_distilbert(config, tensors), epsilon=epsilon)


def _first_position(config: Mapping[str, Any]) -> int:
    return int(config.get("pad_token_id", 1)) + 1
