"""RoBERTa: Liu et al. 2019, https://arxiv.org/abs/1907.11692.

Like BERT's, a checkpoint is equivalent to a DistilBERT one, for pairs as well as single texts: it has one
token type, and its positions start after the row for padding.
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
    """Returns the maximum tokens per text, as given in a checkpoint's config.json."""
    return int(config["max_position_embeddings"]) - _first_position(config)


def to_distilbert(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Converts a RoBERTa checkpoint to an equivalent DistilBERT one.

    Args:
        config: Hugging Face's config.json of a RoBERTa model.
        tensors: The checkpoint's tensors, with or without the leading `roberta.`.

    Returns:
        The DistilBERT configuration and the tensors by DistilBERT's names, read on access.

    Raises:
        BaseCorrupt: If tensors are missing.
        BaseError: If the model does not use absolute position embeddings.
    """
    first = _first_position(config)
    return bert.to_distilbert(config, tensors, checkpoint=CHECKPOINT, first_position=first)


def from_checkpoint(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> keras.Model:
    """Builds KerasHub's DistilBERT backbone from a Hugging Face RoBERTa checkpoint.

    Args:
        config: Hugging Face's config.json.
        tensors: The checkpoint's tensors, with or without the leading `roberta.`.

    Returns:
        The backbone, with the checkpoint's weights.

    Raises:
        BaseCorrupt: If tensors are missing or have the wrong shape.
        BaseError: If the configuration is not supported.
    """
    epsilon = float(config.get("layer_norm_eps", distilbert.EPSILON))
    return distilbert.from_checkpoint(*to_distilbert(config, tensors), epsilon=epsilon)


def _first_position(config: Mapping[str, Any]) -> int:
    return int(config.get("pad_token_id", 1)) + 1
