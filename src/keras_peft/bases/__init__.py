"""Supported architectures, one module each, with layer roles and checkpoint names.

A module defines:

- `MODEL_TYPE`: the `model_type` in Hugging Face's config.json;
- `BACKBONE`: the name of the KerasHub backbone class;
- `ROLES`: a mapping from regular expressions, matched against the end of a layer's path, to roles. The
  expression for blocks may have a group named `block`, which gives the block's number;
- `NORMS_AFTER = True`, if each block is a layer of its own and has a norm right after its attention and
  residual connection;
- `encoder(backbone)`, for text encoders only: a model from {token_ids, padding_mask}, both
  (batch, length) int32, to (batch, length, dim);
- `CHECKPOINT`, if the architecture's Hugging Face checkpoints are supported: the names in them;
- for architectures that can be base models: `max_length(config)`, `from_checkpoint(config, tensors)`,
  which builds the encoder, and `to_distilbert(config, tensors)`, which converts a checkpoint to an
  equivalent DistilBERT one. The encoder is always a DistilBERT.

Modules whose names begin with `_` hold code that several architectures share.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from keras_peft.shelf import Shelf

if TYPE_CHECKING:
    import keras

_SHELF = Shelf(__name__, "architecture", "architectures")


def architectures() -> list[ModuleType]:
    """Returns the architecture modules, sorted by name."""
    return list(_SHELF.modules().values())


def encoders() -> list[ModuleType]:
    """Returns the modules of the text encoders, sorted by name."""
    return [module for module in architectures() if hasattr(module, "encoder")]


def checkpoints() -> dict[str, ModuleType]:
    """Returns the architectures with supported Hugging Face checkpoints, by `model_type`."""
    return {module.MODEL_TYPE: module for module in architectures() if hasattr(module, "CHECKPOINT")}


def architecture_of(model: keras.Model) -> ModuleType | None:
    """Returns the architecture module of a model or of a backbone inside it, or None if it is unknown."""
    classes = {type(layer).__name__ for layer in [model, *getattr(model, "layers", [])]}
    return next((module for module in architectures() if module.BACKBONE in classes), None)


def name_of(model: keras.Model) -> str:
    """Returns the module name of a model's architecture, or an empty string if it is unknown."""
    found = architecture_of(model)
    return "" if found is None else found.__name__.rpartition(".")[2]


def has_norms_after(model: keras.Model) -> bool:
    """Returns whether each block has a norm after its attention and residual connection."""
    return bool(getattr(architecture_of(model), "NORMS_AFTER", False))


def roles_of(model: keras.Model) -> dict[str, str]:
    """Returns a model's path patterns and their roles; empty for an unknown architecture."""
    found = architecture_of(model)
    return {} if found is None else found.ROLES
