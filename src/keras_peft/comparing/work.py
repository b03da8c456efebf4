"""What a comparison is to train."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_peft.comparing.jobs import Job, Setup

if TYPE_CHECKING:
    from keras_peft.comparing.results import Candidate, Result

Beaten = Callable[["Sequence[Result]"], Collection[str]]
"""Returns the names of the candidates that are clearly beaten, so that they need no more seeds."""


@dataclass(frozen=True)
class Work:
    """What is to be trained.

    Attributes:
        candidates: The candidates.
        seeds: Number of seeds.
        folds: The folds of each seed, None alone if there are test rows.
        metric: Key of the main metric.
        setup: What all trainings share.
        task: Class of the task.
        final: How many times as long as a training the final one takes.
        worker_mb: Memory in MiB that the process that trains must not exceed.
        beaten: Says which candidates are clearly beaten.
    """

    candidates: Sequence[Candidate]
    seeds: int
    folds: Sequence[int | None]
    metric: str
    setup: Setup
    task: Any
    final: float
    worker_mb: int
    beaten: Beaten

    def jobs(self, name: str, seed: int) -> list[Job]:
        """Returns the trainings of a candidate with a seed.

        Args:
            name: Name of the candidate.
            seed: The seed.
        """
        return [Job(name, seed, fold) for fold in self.folds]

    def all_jobs(self, name: str) -> list[Job]:
        """Returns the trainings of a candidate with all seeds.

        Args:
            name: Name of the candidate.
        """
        return [job for seed in range(self.seeds) for job in self.jobs(name, seed)]
