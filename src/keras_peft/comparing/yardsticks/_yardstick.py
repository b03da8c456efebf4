"""What a yardstick is: it fits a simple model to rows and answers others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from keras_peft.data.examples import Examples
    from keras_peft.sources import Base
    from keras_peft.tasks import Task


@dataclass(frozen=True)
class Fitted:
    """A fitted yardstick.

    Attributes:
        outputs: Returns the outputs for texts, as a head of the task would; see `compute_outputs`.
        parameters: Number of fitted numbers.
    """

    outputs: Callable[[Sequence[Any]], Any]
    parameters: int


class Yardstick(ABC):
    """A simple model with default hyperparameters, fitted to the same rows as the methods.

    Attributes:
        title: Name for display.
        reads_base: Whether it reads the vectors of the frozen base.
    """

    title: ClassVar[str]
    reads_base: ClassVar[bool] = False

    @classmethod
    def suits(cls, task: type[Task]) -> bool:
        """Returns whether the yardstick makes sense for a task."""
        return True

    @abstractmethod
    def fit(self, training: Examples, task: Task, base: Base | None, *, max_length: int, seed: int) -> Fitted:
        """Fits the model.

        Args:
            training: The training rows.
            task: The task of the labels.
            base: The base, if the yardstick reads it.
            max_length: Maximum tokens per text that the base reads.
            seed: Random seed.
        """
