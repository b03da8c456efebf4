"""An adapter that is ready to answer, and a row for it to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bundle import Bundle
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.tasks import Task


class EngineWeights(Protocol):
    """What an engine makes of a bundle's tensors. Only the engine that made it looks inside."""

    @property
    def bytes(self) -> int:
        """The memory that it takes."""


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """One generation of one adapter. It never changes and lives as long as anyone uses it.

    Attributes:
        name: Its name.
        generation: How many times the name was loaded with it, counted from 1.
        bundle: What its bundle.json says.
        task: What its head means.
        tokenizer: From texts to what it reads; adapters that read alike have the same.
        weights: What the engine made of its tensors.
    """

    name: str
    generation: int
    bundle: Bundle
    task: Task
    tokenizer: Encoder
    weights: EngineWeights

    @property
    def bytes(self) -> int:
        """The memory that its tensors take."""
        return self.weights.bytes

    @property
    def sha256(self) -> str:
        """The sha256 of its adapter.safetensors."""
        return str(self.bundle.content["files"]["adapter.safetensors"])


@dataclass(frozen=True, slots=True, eq=False)
class AdapterRow:
    """A text, or a window of a long one, to be read by an adapter.

    Attributes:
        ids: Its token ids with the special ones, (tokens,) int32.
        adapter: The adapter.
    """

    ids: np.ndarray
    adapter: LoadedAdapter
