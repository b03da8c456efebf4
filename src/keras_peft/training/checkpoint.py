"""Checkpoints: the state of a training run, saved atomically after each epoch, to resume from.

state.safetensors      the weights that train, and the optimizer's
state.json             the epoch, the history and the identity of the run

Where rows are validated on folds, these are trained first, and a checkpoint next to this one has their outputs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import AdapterError, OptionError, listed
from keras_peft.files import mend, whole_folder

if TYPE_CHECKING:
    import numpy as np

TENSORS, STATE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class TrainingState:
    """The state of a training run at the end of an epoch.

    Attributes:
        tensors: All tensors that training changes.
        content: Everything else, as plain values.
    """

    tensors: Mapping[str, np.ndarray]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of a run.

    Args:
        folder: Folder of the checkpoint, which exists until the run is complete.
        run: Everything that the run depends on, by name, as plain values.

    Example:
        >>> checkpoint = Checkpoint(Path("my-bundle.partial"), {"seed": 0})
        >>> checkpoint.write(TrainingState({"a": array}, {"epoch": 1}))
        >>> checkpoint.read().content["epoch"]
        1
    """

    folder: Path
    run: Mapping[str, Any]

    @classmethod
    def next_to(cls, out: Path, run: Mapping[str, Any]) -> Checkpoint:
        """Returns the checkpoint of the run that writes `out`, in a folder next to it.

        Args:
            out: Folder of the bundle.
            run: Everything that the run depends on, by name, as plain values.
        """
        out = out.absolute()
        return cls(out.with_name(f"{out.name}.partial"), run)

    def of_folds(self, folds: int) -> Checkpoint:
        """Returns the checkpoint of the folds that are trained before this run.

        Args:
            folds: Number of folds.
        """
        return Checkpoint(self._folder_of_folds, {**self.run, "folds": folds})

    @property
    def _folder_of_folds(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.folds")

    def is_there(self) -> bool:
        """Returns whether the checkpoint of an interrupted run, or of its folds, exists."""
        return any(map(_exists, (self.folder, self._folder_of_folds)))

    def write(self, state: TrainingState) -> None:
        """Saves a state, replacing the previous one.

        Args:
            state: The state to save.

        Raises:
            OSError: If it cannot be written; the previous state is kept.
        """
        from keras_peft.core.weights import write_tensors

        with whole_folder(self.folder, overwrite=True) as staging:
            write_tensors(staging / TENSORS, state.tensors)
            content = {"run": self.run, **state.content}
            (staging / STATE).write_text(json.dumps(content), encoding="utf-8")

    def read(self) -> TrainingState | None:
        """Reads the saved state.

        Returns:
            The state, or None if there is none.

        Raises:
            OptionError: If the state belongs to another run or is damaged.
        """
        from keras_peft.core.weights import read_tensors

        if not _exists(self.folder):
            return None
        try:
            content = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            tensors = read_tensors(self.folder / TENSORS)
            before = content.pop("run")
        except (OSError, ValueError, KeyError, AttributeError, AdapterError) as error:
            raise OptionError(
                f"{self.folder} is damaged ({error}); train without `resume=True` to start over."
            ) from error
        now = json.loads(json.dumps(self.run))
        differing = [
            f"{key} was {before.get(key)!r} and is now {now.get(key)!r}"
            for key in dict.fromkeys([*now, *before])
            if before.get(key) != now.get(key)
        ]
        if differing:
            raise OptionError(
                f"{self.folder} belongs to a different run: {listed(differing)}. Resume with the same data and "
                "settings, or train without `resume=True` to start over."
            )
        return TrainingState(tensors, content)

    def remove(self) -> None:
        """Removes the saved state and that of the folds, if there are any."""
        for folder in (self.folder, self._folder_of_folds):
            shutil.rmtree(folder, ignore_errors=True)


def _exists(folder: Path) -> bool:
    if folder.parent.is_dir():
        mend(folder)
    return folder.is_dir()
