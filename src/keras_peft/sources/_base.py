"""The base model that every source returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_peft.sources._head import CheckpointHead
from keras_peft.sources._masked_head import MaskedHead

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Base:
    """A pretrained encoder with its tokenizer.

    Attributes:
        name: Name from which the base model can be loaded again.
        architecture: Name of its architecture, such as "distilbert".
        sha256: SHA-256 that identifies the weights.
        encoder: Model from {token_ids, padding_mask}, both (batch, length) int32, to (batch, length, dim)
            floats.
        tokenizer: Content of a tokenizer.json.
        max_length: Maximum tokens per text.
        source: Human-readable description of where it was loaded from.
        head: The checkpoint's own head if it is a classifier, else None.
        masked_head: The checkpoint's own head for masked tokens, if it has one.
        activation: Activation in Hugging Face's text classification head for this architecture.
        pooling: How its vectors are meant to be pooled, one of `core.pooling.POOLINGS`, if its files say so.
    """

    name: str
    architecture: str
    sha256: str
    encoder: keras.Model
    tokenizer: str
    max_length: int
    source: str
    head: CheckpointHead | None = None
    masked_head: MaskedHead | None = None
    activation: str = "relu"
    pooling: str | None = None

    @property
    def vocabulary(self) -> int | None:
        """Number of tokens that the encoder has embeddings for; None if it does not say."""
        for layer in self.encoder._flatten_layers(include_self=True, recursive=True):
            # The name differs between KerasHub's architectures.
            for name in ("vocabulary_size", "vocab_size"):
                if isinstance(found := getattr(layer, name, None), int):
                    return found
        return None

    @property
    def dim(self) -> int:
        """Size of the encoder's output vectors."""
        return int(self.encoder.output_shape[-1])
