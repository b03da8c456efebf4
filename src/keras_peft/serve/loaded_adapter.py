"""An adapter that is loaded, and its input rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bundle import Bundle
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.tasks import Task


class EngineWeights(Protocol):
    """Weights of an adapter in the representation of an engine. Opaque to all other code."""

    @property
    def bytes(self) -> int:
        """Memory of the weights, in bytes."""


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """One generation of a loaded adapter. Immutable.

    Attributes:
        name: Name of the adapter.
        generation: Number of times that the adapter has been loaded, counted from 1.
        bundle: The bundle it was loaded from.
        task: Task of the adapter, which turns head outputs into predictions.
        tokenizer: Tokenizer of its texts, shared between adapters with the same settings.
        weights: Weights in the representation of the engine.
    """

    name: str
    generation: int
    bundle: Bundle
    task: Task
    tokenizer: Encoder
    weights: EngineWeights

    @property
    def bytes(self) -> int:
        """Memory of the weights, in bytes."""
        return self.weights.bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of `adapter.safetensors`, as hexadecimal digits."""
        return str(self.bundle.content["files"]["adapter.safetensors"])


@dataclass(frozen=True, slots=True, eq=False)
class AdapterRow:
    """A tokenized text, or one window of a long text, and the adapter that reads it.

    Attributes:
        ids: Token IDs including special tokens, int32 of shape (tokens,).
        adapter: The adapter.
    """

    ids: np.ndarray
    adapter: LoadedAdapter
