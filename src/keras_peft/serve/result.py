"""What a request is answered, for any protocol to write down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.tasks import Prediction, Task


@dataclass(frozen=True, slots=True)
class AdapterResult:
    """What one adapter answers.

    Attributes:
        task: What it tells.
        generation: The generation that answered.
        predictions: What it says of each text.
        outputs: For each text what its head gave, float32: (outputs,), or (words, outputs).
    """

    task: Task
    generation: int
    predictions: Sequence[Prediction]
    outputs: Sequence[np.ndarray]


@dataclass(frozen=True, slots=True)
class RequestResult:
    """What a request is answered, `answers["name"]` by one adapter.

    Attributes:
        by_name: The answers by the adapters' names, in the order in which they were asked.
        tokens: Tokens that were read, once for all adapters with the same tokenizer.
        cut: Texts of which the end was not read, counted in the same way.
        tokenizing: How long the texts took to become tokens, in seconds.
        queued: How long their rows waited, in seconds.
        computed: How long they were computed, in seconds.
    """

    by_name: dict[str, AdapterResult]
    tokens: int
    cut: int
    tokenizing: float
    queued: float
    computed: float

    def __getitem__(self, name: str) -> AdapterResult:
        return self.by_name[name]
