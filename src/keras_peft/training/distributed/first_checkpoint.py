"""A checkpoint that the first process writes and reads for all."""

from __future__ import annotations

from dataclasses import dataclass, field

from keras_peft.training.checkpoint import Checkpoint, TrainingState
from keras_peft.training.distributed.joining import by_first
from keras_peft.training.distributed.processes import Alone, Processes


@dataclass(frozen=True)
class FirstCheckpoint(Checkpoint):
    """A checkpoint that only the first process writes; its content is read in all processes.

    Args:
        processes: The processes.
    """

    processes: Processes = field(default_factory=Alone)

    @classmethod
    def of(cls, checkpoint: Checkpoint, processes: Processes) -> FirstCheckpoint:
        """Returns a checkpoint for all processes.

        Args:
            checkpoint: The checkpoint of the first process.
            processes: The processes.
        """
        return cls(checkpoint.folder, checkpoint.run, processes)

    def of_folds(self, folds: int) -> Checkpoint:
        """Returns the checkpoint of the folds; see `Checkpoint.of_folds`."""
        return FirstCheckpoint.of(super().of_folds(folds), self.processes)

    def is_there(self) -> bool:
        """Returns whether the checkpoint exists; always False in other processes than the first."""
        return self.processes.rank == 0 and super().is_there()

    def write(self, state: TrainingState) -> None:
        """Saves a state in the first process; see `Checkpoint.write`."""
        if self.processes.rank == 0:
            super().write(state)

    def read(self) -> TrainingState | None:
        """Reads the state in the first process, and returns it in all; see `Checkpoint.read`."""

        def parts() -> list[object] | None:
            state = super(FirstCheckpoint, self).read()
            return None if state is None else [dict(state.tensors), dict(state.content)]

        found = by_first(self.processes, parts)
        return None if found is None else TrainingState(*found)  # type: ignore[arg-type]

    def remove(self) -> None:
        """Removes the saved states in the first process."""
        if self.processes.rank == 0:
            super().remove()
