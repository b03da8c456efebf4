"""What the process that trains is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.data.tables import Data
from keras_peft.training.settings import Settings


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        candidate: Name of the candidate.
        seed: Seed of the training.
        fold: Fold of the cross-validation, None if there are test rows.
    """

    candidate: str
    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """Name of the job, and of its file."""
        return "-".join([self.candidate, str(self.seed), *([] if self.fold is None else [str(self.fold)])])


@dataclass(frozen=True)
class Setup:
    """What all trainings share.

    Attributes:
        data: The labelled text.
        test: The test rows, None if the data decides.
        settings: The training settings.
        sha256: What `Sides.sha256` must give, so that every process reads the same rows.
        results: Folder of the results.
    """

    data: Data
    test: Data | None
    settings: Settings
    sha256: tuple[str, str | None]
    results: Path


@dataclass(frozen=True)
class Final:
    """The training of the bundle at the end.

    Attributes:
        method: Name of the method.
        out: Folder of the bundle.
        options: The user's settings.
    """

    method: str
    out: Path
    options: dict[str, Any]


@dataclass(frozen=True)
class Cancel:
    """The end of a training before it is done.

    Attributes:
        job: Name of the job.
    """

    job: str
