"""The weights of a base model, read without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.bases import distilbert
from keras_peft.errors import BaseCorrupt
from keras_peft.sources import folder as folders

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.places import Place


@dataclass(frozen=True)
class EncoderWeights:
    """The weights of a base model, as those of a DistilBERT.

    Attributes:
        name: Name from which the base model can be loaded again.
        architecture: Name of the architecture of the encoder that Keras builds from these weights.
        sha256: SHA-256 that identifies the weights.
        config: Hugging Face's config.json of the DistilBERT.
        epsilon: Epsilon of the norms.
        tensors: The tensors by Hugging Face's names, read on access.
        folder: Folder of the checkpoint.
    """

    name: str
    architecture: str
    sha256: str
    config: Mapping[str, Any]
    epsilon: float
    tensors: Mapping[str, np.ndarray]
    folder: Path

    @property
    def dim(self) -> int:
        """Size of the encoder's output vectors."""
        return int(self.config["dim"])

    @property
    def max_length(self) -> int:
        """Maximum tokens per text."""
        return int(self.config["max_position_embeddings"])

    @property
    def tokenizer(self) -> str:
        """Content of its tokenizer.json."""
        return folders.load_tokenizer(self.folder)[0]

    def places(self) -> list[Place]:
        """Returns the layers of the encoder, in model order."""
        return distilbert.places(self.config)

    def values(self, place: Place) -> dict[str, np.ndarray]:
        """Returns the variables of a layer by name, float32; matrices are (in, out)."""
        return distilbert.values_at(place, self.tensors)


def read_weights(folder: Path, *, name: str, sha256: str | None = None) -> EncoderWeights:
    """Reads the weights of a checkpoint folder.

    Args:
        folder: Folder of the checkpoint.
        name: Name of the base model in bundles.
        sha256: SHA-256 that identifies the weights; computed from the weight files by default.

    Raises:
        BaseNotFound: If a file is missing.
        BaseCorrupt: If a file is damaged.
        BaseError: If the architecture is not supported.
    """
    config, kind = folders.read_config(folder)
    tensors, identity = (folders.read_tensors(folder), sha256) if sha256 else folders.identified(folder)
    try:
        own, converted = kind.to_distilbert(config, tensors)
    except KeyError as error:
        raise BaseCorrupt(f"{folder / 'config.json'} has no {error}; download the base again.") from None
    return EncoderWeights(
        name=name,
        architecture=distilbert.__name__.rpartition(".")[2],
        sha256=identity,
        config=own,
        epsilon=float(config.get("layer_norm_eps", distilbert.EPSILON)),
        tensors=converted,
        folder=folder,
    )
