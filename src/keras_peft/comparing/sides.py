"""The rows of a comparison: those that are trained on, and those that are scored and decide nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft.comparing.statistics import rows_needed
from keras_peft.comparing.units import rough
from keras_peft.comparing.verdict import MARGIN
from keras_peft.data.columns import column_options
from keras_peft.data.duplicates import digests
from keras_peft.data.examples import Examples, fold_numbers, held_out_rows, read_examples
from keras_peft.data.readers import FORMATS, ending_of, has_separator
from keras_peft.data.tables import Data, is_path
from keras_peft.errors import DataError
from keras_peft.training.prepare import read_training
from keras_peft.training.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.progress import Progress

TEST_SHARE = 0.25
MANY_ROWS = 1000
"""With so many rows, a share is held out as test rows; with fewer, all rows are scored by cross-validation."""
FOLDS = 5
LEAST_ROWS = 50
# Share of the rows on which two candidates are right and wrong in turn, for the rows that are needed.
_APART = 0.1
# Which rows are held out does not depend on the seeds of the trainings.
_SEED = 0


@dataclass(frozen=True)
class Part:
    """What one training trains on and is scored on.

    Attributes:
        fold: Number of the fold, None if there are test rows.
        training: The rows to train on.
        scored: The rows to score.
        positions: Positions of the rows to score in the data, (rows,).
    """

    fold: int | None
    training: Examples
    scored: Examples
    positions: np.ndarray


@dataclass(frozen=True)
class Sides:
    """The rows of a comparison.

    Attributes:
        data: The data without test rows of their own, which the bundle is trained on.
        training: The rows to train on; all rows for a cross-validation.
        test: The test rows, None for a cross-validation.
        positions: Positions of the test rows in their data.
        rows: Number of rows of the data, without those of a test file.
        notes: Sentences about the rows.
    """

    data: Data
    training: Examples
    test: Examples | None
    positions: np.ndarray | None
    rows: int
    notes: tuple[str, ...]

    @property
    def folds(self) -> list[int | None]:
        """The folds of a cross-validation, or None alone if there are test rows."""
        return [None] if self.test is not None else list(range(FOLDS))

    @property
    def test_rows(self) -> int:
        """Number of rows that are scored."""
        return self.rows if self.test is None else len(self.test)

    def part(self, seed: int, fold: int | None) -> Part:
        """Returns what one training trains on and is scored on.

        Args:
            seed: Seed of the training, which also decides on the folds.
            fold: Number of the fold, None if there are test rows.
        """
        import numpy as np

        training = replace(self.training, notes=())  # They are told once, by whoever compares.
        if self.test is not None and self.positions is not None:
            return Part(None, training, self.test, self.positions)
        numbers = _folds(training, seed)
        inside = np.flatnonzero(numbers == fold)
        scored = training.pick(inside)
        return Part(fold, training.pick(np.flatnonzero(numbers != fold)).knowing(scored), scored, inside)

    def sha256(self) -> tuple[str, str | None]:
        """Returns the SHA-256 of the rows to train on and of the test rows."""
        return self.training.sha256, None if self.test is None else self.test.sha256


def read_sides(data: Data, test: Data | None, settings: Settings, progress: Progress) -> Sides:
    """Reads the rows and sets the test rows apart.

    Args:
        data: Labelled text; see `read_examples`. In a folder with a file train.* and a file test.*, the latter has
            the test rows.
        test: The test rows, None to hold out a part of the data or to cross-validate.
        settings: The training settings.
        progress: Is told how the rows were read.

    Raises:
        DataError: If the rows cannot be used, or are too few.
    """
    if test is None and is_path(data):
        data, test = _files_in(Path(data))
    examples = read_training(data, settings, progress)
    if len(examples) < LEAST_ROWS:
        needed = rough(rows_needed(math.sqrt(_APART / len(examples)), len(examples), MARGIN))
        raise DataError(
            f"{examples.source}: {len(examples)} rows are too few to compare methods on; expected at least "
            f"{LEAST_ROWS}. To find a difference of {MARGIN} between two that disagree on every tenth row takes about "
            f"{needed}."
        )
    if test is not None:
        return _with_test(data, examples, test, settings)
    if len(examples) >= MANY_ROWS:
        return _held_out(data, examples)
    return Sides(data, examples, None, None, len(examples), examples.notes)


def _files_in(folder: Path) -> tuple[Path, Path | None]:
    """Returns the files with training and test rows of a folder that has both, or else the folder."""
    if not folder.is_dir():
        return folder, None
    sides = {
        side: sorted(path for path in folder.glob(f"{side}.*") if ending_of(path) in FORMATS)
        for side in ("train", "test")
    }
    for side, paths in sides.items():
        if len(paths) > 1 and sides["train"] and sides["test"]:
            names = ", ".join(path.name for path in paths)
            raise DataError(
                f"{folder} has several {side} files: {names}; give the ones to use as `data` and `test`."
            )
    if sides["train"] and sides["test"]:
        return sides["train"][0], sides["test"][0]
    return folder, None


def _with_test(data: Data, examples: Examples, test: Data, settings: Settings) -> Sides:
    """Reads the test rows as the training rows were read, without texts that are also trained on."""
    import numpy as np

    task = examples.task.from_labels(examples.labels)
    separator = settings.separator if is_path(test) and has_separator(Path(test)) else None
    options = {**settings.reading(), "label_columns": None, **column_options(examples.columns)}
    found = read_examples(test, task=task, **options | {"separator": separator})
    task.check_known(found.labels, found.source)
    fresh = np.flatnonzero(~np.isin(digests(found.texts), digests(examples.texts)))
    notes = [*examples.notes, *found.notes]
    if repeated := len(found) - len(fresh):
        notes.append(f"{repeated} test texts are also in the training rows and are not scored")
    if not len(fresh):
        raise DataError(
            f"{found.source}: all test texts are also in the training rows; expected other texts."
        )
    return Sides(data, examples, found.pick(fresh), fresh, len(examples), tuple(notes))


def _held_out(data: Data, examples: Examples) -> Sides:
    """Holds out a share of the rows; rows with the same text stay together."""
    import numpy as np

    held_out = held_out_rows(examples, TEST_SHARE, seed=_SEED)
    texts = digests(examples.texts)
    held_out &= ~np.isin(texts, texts[~held_out])
    rows = np.flatnonzero(held_out)
    training = examples.pick(np.flatnonzero(~held_out))
    return Sides(data, training, examples.pick(rows), rows, len(examples), examples.notes)


def _folds(examples: Examples, seed: int) -> np.ndarray:
    """Assigns the rows to folds; rows with the same text to the same one."""
    import numpy as np

    numbers = fold_numbers(examples, FOLDS, seed=seed)
    _, first, group = np.unique(digests(examples.texts), return_index=True, return_inverse=True)
    return np.asarray(numbers[first[group]])
