"""Base models with their Hugging Face checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bases, sources
from keras_peft.bases import bert, distilbert
from keras_peft.core.sites import find_sites
from keras_peft.errors import BaseError, BaseNotFound
from keras_peft.files import is_inside
from keras_peft.interop.hf_peft._names import Names
from keras_peft.sources import Base, hub
from keras_peft.sources import folder as folders

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class HuggingFaceBase:
    """A base model that was loaded from a Hugging Face checkpoint.

    Attributes:
        base: The loaded base model.
        folder: Folder of its checkpoint.
        config: The checkpoint's config.json.
        names: Its module names.
    """

    base: Base
    folder: Path
    config: Mapping[str, Any]
    names: Names

    @property
    def kind(self) -> str:
        """Hugging Face's `model_type` of the architecture."""
        return self.names.kind

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Returns the tensors of the checkpoint by name, read on access."""
        return folders.read_tensors(self.folder)

    def as_kind(self, kind: str) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
        """Returns the base model as a checkpoint of a given architecture, without a head.

        Args:
            kind: The base model's own `model_type`, or DistilBERT's; see `no_distilbert`.

        Returns:
            The configuration and the tensors by name.
        """
        config, tensors = dict(self.config), self.tensors()
        if kind != self.kind:
            made: tuple[dict[str, Any], Mapping[str, np.ndarray]]
            made = bases.checkpoints()[self.kind].to_distilbert(config, tensors)
            return made
        names = self.names.checkpoint
        own = ("embeddings.", f"{names.blocks}.")
        return config, {name: tensors[name] for name in tensors if names.bare(name).startswith(own)}

    @property
    def no_distilbert(self) -> str:
        """Why the base model has no equivalent DistilBERT; empty if it has one."""
        epsilon = self.config.get("layer_norm_eps", distilbert.EPSILON)
        if epsilon == distilbert.EPSILON:
            return ""
        return (
            f"its base cannot be written in DistilBERT's format, whose norms use epsilon {distilbert.EPSILON:g}, but "
            f"its norms use {epsilon:g}"
        )

    @property
    def no_pairs(self) -> str:
        """Why classifiers of text pairs from other libraries are not supported; empty if they are."""
        tensors, checkpoint = self.tensors(), self.names.checkpoint
        types = [len(tensors[name]) for name in tensors if checkpoint.bare(name) == bert.TYPES]
        if max(types, default=1) == 1:
            return ""
        return (
            f"the second text of a pair has its own token type in a {checkpoint.classes}, which is not "
            "supported"
        )


def load_base(name: str) -> HuggingFaceBase:
    """Loads a base model with its Hugging Face checkpoint.

    Args:
        name: Base model, as accepted by `keras_peft.load_base`.

    Raises:
        BaseError: If it cannot be loaded, or is not a Hugging Face checkpoint.
    """
    base = sources.load(name)
    found = sources.checkpoint(name)
    if found is None:
        raise BaseError(
            f"{name} is a KerasHub preset, whose layers have no Hugging Face names; use a Hugging Face checkpoint as "
            "the base: a folder, hf://owner/name or minilm."
        )
    config = json.loads((found / "config.json").read_text(encoding="utf-8"))
    all_sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    return HuggingFaceBase(base, found, config, Names(all_sites, config["model_type"]))


def base_named(name: str | None, folder: Path, *, revision: str | None = None) -> str:
    """Returns the base model that an adapter names, as accepted by `load_base`.

    An adapter from the hub may name only a folder inside its own, no other local folder.

    Args:
        name: Name of the base model in the adapter's configuration.
        folder: Folder of the adapter, which may contain the base model.
        revision: Revision of the base model's repository.

    Raises:
        BaseNotFound: If the adapter names no base model, or a folder that does not exist.
    """
    if not isinstance(name, str) or not name:
        raise BaseNotFound(f"{folder} does not name its base model; set `base`.")
    places = [folder / name, Path(name)]
    if hub.is_hub_name(hub.name_of(folder)):
        places = [place for place in places[:1] if is_inside(place, folder)]
    for place in places:
        if place.is_dir():
            return str(place)
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return f"hf://{name}@{revision}" if revision else f"hf://{name}"
    raise BaseNotFound(f"{folder} is for the base {name}, which was not found; set `base` to its path.")
