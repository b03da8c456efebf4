"""What long work tells the one who waits for it. Here it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_peft.core.plan import Plan


class Progress:
    """Gets the news of a run; the methods do nothing and are there to be overridden."""

    def stage(self, text: str) -> None:
        """A stage begins, such as "Loading the base minilm"."""

    def importing(self) -> AbstractContextManager[Any]:
        """Returns a context in which Keras and its backend are imported."""
        return nullcontext()

    def note(self, text: str) -> None:
        """Something that the user should know, such as rows that were left out."""

    def planned(self, plan: Plan, settings: dict[str, Any]) -> None:
        """What will train, before the first step."""

    def trunk_started(self, *, rows: int) -> None:
        """The frozen part is computed, for so many different texts."""

    def trunk_computed(self, *, rows: int) -> None:
        """So many more of them are done."""

    def trunk_finished(self) -> None:
        """The frozen part is computed, well or not."""

    def started(self, *, epochs: int, steps: int, done: int) -> None:
        """Training begins, with so many epochs of so many steps, of which `done` epochs are done."""

    def stepped(self, *, loss: float) -> None:
        """A step is done; `loss` is the mean of the epoch so far."""

    def epoch_ended(self, *, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        """An epoch is done and validated; `epoch` counts from 1, the first metric is the main one."""

    def generating(self, *, rows: int, kept: int) -> None:
        """So many rows are asked for; `kept` of them are there from an earlier run."""

    def generated(self, *, rows: int) -> None:
        """An answer came, and so many rows of it are accepted."""

    def waiting(self, *, seconds: float, reason: str) -> None:
        """The endpoint is given a pause, for a reason that it told."""

    def finished(self) -> None:
        """Training, or generating, is over, well or not."""
