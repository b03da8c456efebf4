"""Interface of the engines."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bundle import Bundle
    from keras_peft.serve.loaded_adapter import AdapterRow, EngineWeights


class Base(Protocol):
    """Properties of the base model of an engine."""

    @property
    def name(self) -> str:
        """Name of the base model; a path if it was loaded from a folder."""

    @property
    def architecture(self) -> str:
        """Name of the module in `bases/`."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights."""

    @property
    def vocabulary(self) -> int | None:
        """Number of tokens that it has embeddings for; None if it is not known."""

    @property
    def max_length(self) -> int:
        """Maximum number of tokens."""

    @property
    def tokenizer(self) -> str:
        """Content of its `tokenizer.json`."""


class Engine(Protocol):
    """Runs rows of many adapters on one frozen base model, in mixed batches.

    The methods must be thread-safe.
    """

    @property
    def name(self) -> str:
        """Name of the engine and of its backend."""

    @property
    def base(self) -> Base:
        """The base model."""

    @property
    def workers(self) -> int:
        """Best number of concurrent batches."""

    def load(self, bundle: Bundle) -> EngineWeights:
        """Loads the weights of a bundle and prepares them for `run`.

        Args:
            bundle: The bundle. The caller has checked that it was trained on this base model.

        Returns:
            The weights in the representation of the engine.

        Raises:
            KerasPeftError: If the engine cannot run the bundle, or its tensors do not fit.
        """

    def group(self, row: AdapterRow) -> Hashable:
        """Returns a batching key; only rows with equal keys run in the same batch.

        Args:
            row: The row.
        """

    def run(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Runs rows of any adapters.

        Args:
            rows: The rows.

        Returns:
            The head outputs of each row, float32 of shape (outputs,) or, for tasks that read words,
            (tokens, outputs).
        """
