"""The processes that train together. A training that runs in one process is `Alone`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import keras

    from keras_peft.runtime.outputs import Run
    from keras_peft.runtime.rows import EncodedRows
    from keras_peft.training.batches import TrainingBatches

Item = TypeVar("Item")


class Processes(Protocol):
    """Processes that run the same training and divide its work.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    rank: int
    count: int

    def own(self, items: Sequence[Item]) -> Sequence[Item]:
        """Returns the items of which this process does the work."""

    def gathered(self, content: Any) -> list[Any]:
        """Returns the content of all processes, in order of rank.

        Args:
            content: Numbers, strings, arrays, and lists or dicts of them.
        """

    def outputs(self, run: Run, rows: EncodedRows, *, repeatedly: bool = False) -> Any:
        """Computes outputs as `compute_outputs` does, each process for a part of the rows."""

    def training(self, model: keras.Model) -> AbstractContextManager[Any]:
        """Returns a context in which `fit` trains a model by all processes."""

    def scoring(self, model: keras.Model) -> AbstractContextManager[Any]:
        """Returns a context within `training`, in which each process runs the model by itself."""

    def batches(self, batches: TrainingBatches) -> Any:
        """Returns the dataset to pass to `fit`."""

    def added_rows(self, rows: int) -> int:
        """Returns the number of rows without weight that complete a batch."""


class Alone:
    """A training in one process.

    Attributes:
        rank: 0.
        count: 1.
    """

    rank, count = 0, 1

    def own(self, items: Sequence[Item]) -> Sequence[Item]:
        """Returns all items."""
        return items

    def gathered(self, content: Any) -> list[Any]:
        """Returns the content alone."""
        return [content]

    def outputs(self, run: Run, rows: EncodedRows, *, repeatedly: bool = False) -> Any:
        """Computes the outputs of all rows."""
        from keras_peft.runtime.outputs import compute_outputs

        return compute_outputs(run, rows, repeatedly=repeatedly)

    def training(self, model: keras.Model) -> AbstractContextManager[Any]:
        """Returns an empty context."""
        return nullcontext()

    def scoring(self, model: keras.Model) -> AbstractContextManager[Any]:
        """Returns an empty context."""
        return nullcontext()

    def batches(self, batches: TrainingBatches) -> Any:
        """Returns the dataset of all rows."""
        return batches.for_fit()

    def added_rows(self, rows: int) -> int:
        """Returns 0."""
        return 0


def same(processes: Processes, contents: Iterable[tuple[str, Any]]) -> list[str]:
    """Returns the names of contents that differ between the processes.

    Args:
        processes: The processes.
        contents: Pairs of a name and what should be equal in all processes.
    """
    named = dict(contents)
    first, *others = processes.gathered(named)
    return [name for name in named if any(other[name] != first[name] for other in others)]
