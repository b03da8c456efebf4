"""A base with what Hugging Face knows of it."""

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
from keras_peft.interop.hf_peft._names import Names
from keras_peft.sources import Base, hub
from keras_peft.sources import folder as folders

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class HuggingFaceBase:
    """A base that was read from a checkpoint of Hugging Face.

    Attributes:
        base: The loaded base.
        folder: Where its checkpoint lies.
        config: The checkpoint's config.json.
        names: Its modules.
    """

    base: Base
    folder: Path
    config: Mapping[str, Any]
    names: Names

    @property
    def kind(self) -> str:
        """What Hugging Face calls its architecture."""
        return self.names.kind

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Returns the tensors of its checkpoint, each read when it is asked for."""
        return folders.read_tensors(self.folder)

    def as_kind(self, kind: str) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
        """Returns the configuration and the tensors, without a head, of a base that computes the same.

        Args:
            kind: Its own, or DistilBERT's; see `no_distilbert`.
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
        """Why no DistilBERT computes the same; empty where one does."""
        epsilon = self.config.get("layer_norm_eps", distilbert.EPSILON)
        if epsilon == distilbert.EPSILON:
            return ""
        return (
            f"its base cannot be written in DistilBERT's form, whose norms add {distilbert.EPSILON:g} to the variance "
            f"and this one's {epsilon:g}"
        )

    @property
    def no_pairs(self) -> str:
        """Why classifiers of pairs that were trained elsewhere are not computed here; empty where they are."""
        tensors, checkpoint = self.tensors(), self.names.checkpoint
        types = [len(tensors[name]) for name in tensors if checkpoint.bare(name) == bert.TYPES]
        if max(types, default=1) == 1:
            return ""
        return (
            f"the second text of a pair has a token type of its own in a {checkpoint.classes}, which is not computed "
            "here"
        )


def load_base(name: str) -> HuggingFaceBase:
    """Loads a base.

    Args:
        name: As `keras_peft.load_base` takes it.

    Raises:
        BaseError: If it cannot be had, or is no checkpoint of Hugging Face.
    """
    base = sources.load(name)
    found = sources.checkpoint(name)
    if found is None:
        raise BaseError(
            f"{name} is a KerasHub preset, whose layers Hugging Face has no names for; use a base that is a checkpoint "
            "of Hugging Face: a folder, hf://owner/name or minilm."
        )
    config = json.loads((found / "config.json").read_text(encoding="utf-8"))
    all_sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    return HuggingFaceBase(base, found, config, Names(all_sites, config["model_type"]))


def base_named(name: str | None, folder: Path, *, revision: str | None = None) -> str:
    """Returns the base that an adapter names, as `load_base` takes it.

    An adapter from the hub can mean no folder of this machine but one inside its own.

    Args:
        name: How the adapter calls it.
        folder: Where the adapter lies, in which the base may lie.
        revision: Of its repository.

    Raises:
        BaseNotFound: If it names none, or a folder that is not there.
    """
    if not isinstance(name, str) or not name:
        raise BaseNotFound(f"{folder} does not say what base it is for; name it with `base`.")
    places = [folder / name, Path(name)]
    if hub.is_hub_name(hub.name_of(folder)):
        places = [place for place in places[:1] if place.resolve().is_relative_to(folder.resolve())]
    for place in places:
        if place.is_dir():
            return str(place)
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return f"hf://{name}@{revision}" if revision else f"hf://{name}"
    raise BaseNotFound(f"{folder} is for the base {name}, which is not there; name its place with `base`.")
