"""Results of a request, independent of the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.tasks import Prediction, Task


@dataclass(frozen=True, slots=True)
class AdapterResult:
    """Result of one adapter.

    Attributes:
        task: Task of the adapter.
        generation: Generation of the adapter that answered.
        predictions: Prediction for each text.
        outputs: Head outputs for each text, float32 of shape (outputs,) or, for adapters that tag
            words, (words, outputs).
    """

    task: Task
    generation: int
    predictions: Sequence[Prediction]
    outputs: Sequence[np.ndarray]


@dataclass(frozen=True, slots=True)
class RequestResult:
    """Results of a request. `result["name"]` is the result of one adapter.

    Attributes:
        by_name: Results by adapter name, in the order of the request.
        tokens: Number of input tokens, counted once for adapters that share a tokenizer.
        cut: Number of truncated texts, counted in the same way.
        tokenizing: Tokenization time, in seconds.
        queued: Time in the queue, in seconds.
        computed: Computation time, in seconds.
    """

    by_name: dict[str, AdapterResult]
    tokens: int
    cut: int
    tokenizing: float
    queued: float
    computed: float

    def __getitem__(self, name: str) -> AdapterResult:
        return self.by_name[name]
