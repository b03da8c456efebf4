"""Hugging Face's files of an encoder with an adapter merged into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.bases import bert, distilbert
from keras_peft.interop.hf_peft._base import HuggingFaceBase

if TYPE_CHECKING:
    pass

# These keys describe the environment that wrote the base model, or how its weights were stored.
_LEFT_OUT = (
    "_name_or_path",
    "auto_map",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "quantization_config",
)
_TABLES = (bert.POSITIONS, bert.TYPES)


def encoder_checkpoint(loaded: HuggingFaceBase, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the encoder of a base model, with its current weights, as a checkpoint of Hugging Face.

    Args:
        loaded: The base model. An adapter must be merged into it.
        kind: Hugging Face's `model_type` to write: that of the base model, or DistilBERT's.

    Returns:
        The configuration and the tensors by name.
    """
    config, before = loaded.as_kind(distilbert.MODEL_TYPE)
    now = distilbert.to_checkpoint(loaded.base.encoder)
    if kind == distilbert.MODEL_TYPE:
        return _kept(config), now
    own = loaded.names.checkpoint
    blocks = int(config["n_layers"])
    paths = {path: module for module, path in distilbert.CHECKPOINT.modules(blocks).items()}
    tensors = {
        f"{own.prefix}.{module}.{ending}": now[f"{distilbert.CHECKPOINT.prefix}.{paths[path]}.{ending}"]
        for module, path in own.modules(blocks).items()
        for ending in ("weight", "bias")
        if f"{distilbert.CHECKPOINT.prefix}.{paths[path]}.{ending}" in now
    }
    there = {own.bare(name): value for name, value in loaded.tensors().items() if own.bare(name) in _TABLES}
    # DistilBERT's position table includes the token type, so only its change goes into the original table.
    change = (
        tensors[f"{own.prefix}.{bert.POSITIONS}"] - before[f"{distilbert.CHECKPOINT.prefix}.{bert.POSITIONS}"]
    )
    positions = there[bert.POSITIONS].astype(np.float32)
    positions[-len(change) :] += change
    tensors |= {f"{own.prefix}.{bert.TYPES}": there[bert.TYPES], f"{own.prefix}.{bert.POSITIONS}": positions}
    return _kept(loaded.config), tensors


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a config.json that describe the model."""
    return {**{key: value for key, value in config.items() if key not in _LEFT_OUT}, "dtype": "float32"}
