"""What the process that trains is asked to do."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.data.tables import Data
from keras_peft.training.settings import Settings

# Characters of a candidate's name that all file systems accept, and how many.
_UNSAFE = re.compile(r"[^\w.,=()-]+", re.ASCII)
_MOST_LETTERS = 80


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
        parts = [_as_file_name(self.candidate), str(self.seed)]
        return "-".join(parts if self.fold is None else [*parts, str(self.fold)])


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
        method: Name of the candidate, which is a method.
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


def _as_file_name(candidate: str) -> str:
    """Returns a name for files that no other candidate has."""
    safe = _UNSAFE.sub("_", candidate)[:_MOST_LETTERS]
    if safe == candidate:
        return safe
    return f"{safe}-{hashlib.sha256(candidate.encode()).hexdigest()[:8]}"
