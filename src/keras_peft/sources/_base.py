"""What every source gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_peft.sources._head import CheckpointHead

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Base:
    """A pretrained encoder with its tokenizer.

    Attributes:
        name: What it is called, enough to find it again.
        architecture: Name of the file in `bases/`.
        sha256: Of the file that holds its weights.
        encoder: The model from {token_ids, padding_mask}, both (batch, length)
            int32, to (batch, length, dim) floats.
        tokenizer: The content of a tokenizer.json.
        max_length: The most tokens that it reads.
        source: Where it was found, for people.
        head: Where it is a classifier already, its head.
        activation: What acts in the head that Hugging Face puts on it to classify texts.
    """

    name: str
    architecture: str
    sha256: str
    encoder: keras.Model
    tokenizer: str
    max_length: int
    source: str
    head: CheckpointHead | None = None
    activation: str = "relu"

    @property
    def dim(self) -> int:
        """Size of the encoder's vectors."""
        return int(self.encoder.output_shape[-1])
