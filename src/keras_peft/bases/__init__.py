"""The architectures: one file each, with its roles and its checkpoints' names.

A file here has

- `MODEL_TYPE`: what Hugging Face's config.json calls it;
- `BACKBONE`: the name of KerasHub's backbone class;
- `ROLES`: from regular expressions on the end of a layer's path to roles. A group
  named `block` in that of a block gives its number, where counting does not;
- `NORMS_AFTER = True`, where each block has a norm right after its attention and the
  residual connection, and blocks that are layers of their own;
- `encoder(backbone)`, for encoders of text only: the model from {token_ids,
  padding_mask}, both (batch, length) int32, to (batch, length, dim);
- `CHECKPOINT`, where checkpoints of Hugging Face are known: the names in them;
- for those that can be bases, `max_length(config)`, `from_checkpoint(config, tensors)`, which builds the
  encoder, and `to_distilbert(config, tensors)`: what is built is a DistilBERT that computes the same.

Files whose names begin with `_` hold what several architectures share.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from keras_peft.shelf import Shelf

if TYPE_CHECKING:
    import keras

_SHELF = Shelf(__name__, "architecture", "architectures")


def architectures() -> list[ModuleType]:
    """Lists the modules of this folder, by name."""
    return list(_SHELF.modules().values())


def encoders() -> list[ModuleType]:
    """Lists the architectures that turn a text into vectors, by name."""
    return [module for module in architectures() if hasattr(module, "encoder")]


def checkpoints() -> dict[str, ModuleType]:
    """Returns the architectures whose checkpoints of Hugging Face are known, by what config.json calls them."""
    return {module.MODEL_TYPE: module for module in architectures() if hasattr(module, "CHECKPOINT")}


def architecture_of(model: keras.Model) -> ModuleType | None:
    """Returns the architecture that a model is or contains, or None."""
    classes = {type(layer).__name__ for layer in [model, *getattr(model, "layers", [])]}
    return next((module for module in architectures() if module.BACKBONE in classes), None)


def name_of(model: keras.Model) -> str:
    """Returns the name of the file of the architecture that a model is or contains; empty for an unknown one."""
    found = architecture_of(model)
    return "" if found is None else found.__name__.rpartition(".")[2]


def has_norms_after(model: keras.Model) -> bool:
    """Tells whether a norm follows the attention of each block, after the residual connection."""
    return bool(getattr(architecture_of(model), "NORMS_AFTER", False))


def roles_of(model: keras.Model) -> dict[str, str]:
    """Returns the path patterns and roles of a model, empty for an unknown one."""
    found = architecture_of(model)
    return {} if found is None else found.ROLES
