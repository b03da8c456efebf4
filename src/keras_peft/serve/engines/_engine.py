"""What every engine does."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bundle import Bundle
    from keras_peft.serve.loaded_adapter import AdapterRow, EngineWeights


class Base(Protocol):
    """What is told of the base that an engine runs."""

    @property
    def name(self) -> str:
        """What it is called; of a folder its path."""

    @property
    def architecture(self) -> str:
        """Name of the file in `bases/`."""

    @property
    def sha256(self) -> str:
        """Of its weights."""

    @property
    def max_length(self) -> int:
        """The most tokens that it reads."""

    @property
    def tokenizer(self) -> str:
        """The content of its tokenizer.json."""


class Engine(Protocol):
    """A frozen base on which rows of many adapters run in one batch.

    Its methods are called from several threads at the same time.
    """

    @property
    def base(self) -> Base:
        """The base."""

    @property
    def workers(self) -> int:
        """How many batches it computes best at the same time."""

    def load(self, bundle: Bundle) -> EngineWeights:
        """Reads the tensors of a bundle of this base and makes them ready to run.

        Args:
            bundle: The bundle. That it is of this base has been checked.

        Raises:
            KerasPeftError: If the engine cannot run it, or its tensors are not what it needs.
        """

    def group(self, row: AdapterRow) -> Hashable:
        """Returns what a row's computation has in common with that of others; equal ones run together."""

    def run(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Answers rows of any adapters.

        Args:
            rows: The rows.

        Returns:
            What the head of each gives, float32: (outputs,), or (tokens, outputs) where the
            task reads words.
        """
