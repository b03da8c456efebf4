"""BERT: Devlin et al. 2018, https://arxiv.org/abs/1810.04805.

A BERT checkpoint for single texts is exactly a DistilBERT one: the blocks are
the same, and DistilBERT only lacks the pooler and the token types. So row 0 of
the token-type table is added to every position and the tensors are renamed.
Read that way it keeps BERT's exact GELU, which KerasHub's BERT approximates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_peft.bases._shared import TRANSFORMER, single_text_encoder
from keras_peft.errors import BaseCorrupt, listed

if TYPE_CHECKING:
    import numpy as np

MODEL_TYPE = "bert"
BACKBONE = "BertBackbone"
NORMS_AFTER = True
ROLES = {**TRANSFORMER, r"logits": "head"}
encoder = single_text_encoder

# DistilBERT's names for BERT's parts, in Hugging Face's spelling.
_RENAMED = {
    r"embeddings\.word_embeddings": "embeddings.word_embeddings",
    r"embeddings\.LayerNorm": "embeddings.LayerNorm",
    r"encoder\.layer\.(\d+)\.attention\.self\.query": r"transformer.layer.\1.attention.q_lin",
    r"encoder\.layer\.(\d+)\.attention\.self\.key": r"transformer.layer.\1.attention.k_lin",
    r"encoder\.layer\.(\d+)\.attention\.self\.value": r"transformer.layer.\1.attention.v_lin",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense": r"transformer.layer.\1.attention.out_lin",
    r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm": r"transformer.layer.\1.sa_layer_norm",
    r"encoder\.layer\.(\d+)\.intermediate\.dense": r"transformer.layer.\1.ffn.lin1",
    r"encoder\.layer\.(\d+)\.output\.dense": r"transformer.layer.\1.ffn.lin2",
    r"encoder\.layer\.(\d+)\.output\.LayerNorm": r"transformer.layer.\1.output_layer_norm",
}
# Before 2019 the scale and shift of a norm were called gamma and beta.
_ENDINGS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def module_names(blocks: int) -> dict[str, str]:
    """Returns the names of BERT's modules, without `bert.`, and what DistilBERT calls them.

    Args:
        blocks: Number of blocks.

    Example:
        >>> module_names(1)["encoder.layer.0.attention.self.query"]
        'transformer.layer.0.attention.q_lin'
    """
    return {
        pattern.replace(r"(\d+)", str(block)).replace("\\", ""): name.replace(r"\1", str(block))
        for pattern, name in _RENAMED.items()
        for block in range(blocks)
    }


def to_distilbert(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Re-expresses a BERT checkpoint as a DistilBERT one.

    Args:
        config: Hugging Face's config.json of a BERT model.
        tensors: Its tensors, with or without the leading `bert.`.

    Returns:
        The configuration and the tensors in DistilBERT's form.

    Raises:
        BaseCorrupt: If tensors are missing.
    """
    source = {name.removeprefix("bert."): value for name, value in tensors.items()}
    renamed: dict[str, np.ndarray] = {}
    for name, value in source.items():
        stem, _, ending = name.rpartition(".")
        for pattern, replacement in _RENAMED.items():
            if ending in _ENDINGS and (found := re.fullmatch(pattern, stem)):
                renamed[f"distilbert.{found.expand(replacement)}.{_ENDINGS[ending]}"] = value
    layers = int(config["num_hidden_layers"])
    tables = ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight")
    missing = [table for table in tables if table not in source]
    if missing or len(renamed) != 3 + 16 * layers:
        raise BaseCorrupt(
            f"The BERT checkpoint has {len(renamed)} of {3 + 16 * layers} expected tensors"
            f"{', without ' + listed(missing) if missing else ''}; download it again."
        )
    positions, types = (source[table] for table in tables)
    renamed["distilbert.embeddings.position_embeddings.weight"] = positions + types[0]
    return {
        "model_type": "distilbert",
        "architectures": ["DistilBertModel"],
        "activation": config.get("hidden_act", "gelu"),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
        "dim": config["hidden_size"],
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "hidden_dim": config["intermediate_size"],
        "initializer_range": config.get("initializer_range", 0.02),
        "max_position_embeddings": config["max_position_embeddings"],
        "n_heads": config["num_attention_heads"],
        "n_layers": layers,
        "pad_token_id": config.get("pad_token_id", 0),
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
        "vocab_size": config["vocab_size"],
    }, renamed
