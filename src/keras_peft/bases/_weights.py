"""The weights of a base model, read without Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from keras_peft.bases import distilbert

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
        read_tokenizer: Returns the content of the checkpoint's tokenizer.json.
    """

    name: str
    architecture: str
    sha256: str
    config: Mapping[str, Any]
    epsilon: float
    tensors: Mapping[str, np.ndarray]
    read_tokenizer: Callable[[], str]

    @property
    def dim(self) -> int:
        """Size of the encoder's output vectors."""
        return int(self.config["dim"])

    @cached_property
    def tokenizer(self) -> str:
        """Content of the checkpoint's tokenizer.json."""
        return self.read_tokenizer()

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the encoder has embeddings for."""
        return int(self.config["vocab_size"])

    @property
    def max_length(self) -> int:
        """Maximum tokens per text."""
        return int(self.config["max_position_embeddings"])

    def places(self) -> list[Place]:
        """Returns the layers of the encoder, in model order."""
        return distilbert.places(self.config)

    def values(self, place: Place) -> dict[str, np.ndarray]:
        """Returns the variables of a layer by name, float32; matrices are (in, out)."""
        return distilbert.values_at(place, self.tensors)
