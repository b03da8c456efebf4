"""What runs a head without Keras needs to know of its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class HeadTask(Protocol):
    """The properties of a task that its head depends on."""

    @property
    def per_word(self) -> bool:
        """Whether the head has an output per word, or one for the whole row."""

    @property
    def outputs(self) -> int:
        """Number of outputs of the head."""

    @property
    def pooling(self) -> str | None:
        """How the head reads the base's vectors; see `attach.adapt`."""

    @property
    def head_layers(self) -> tuple[tuple[str, str | None], ...]:
        """The head's dense layers in order: their names and activations."""

    def head_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the head's tensors by key, for vectors of size `dim`."""

    def to_plain(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Converts the head's last layer to one whose outputs can be read without the task."""

    def apply_head(self, vectors: np.ndarray, head: Mapping[str, np.ndarray]) -> np.ndarray:
        """Computes the head's outputs from the base's vectors, (rows, length, dim) float32."""
