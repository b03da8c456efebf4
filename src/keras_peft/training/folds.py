"""Cross-validation: scores every row once, with a model that was not trained on it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_peft.core.method import Method
from keras_peft.data.examples import Examples, fold_numbers
from keras_peft.data.tables import Data
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import Scores
from keras_peft.training.fine_tune import chosen_methods
from keras_peft.training.once import train_once
from keras_peft.training.prepare import check_installed, read_training
from keras_peft.training.settings import Settings
from keras_peft.training.showing import shown

WITHOUT = ("validation", "abstain_below", "unlabelled")
"""Settings without effect here: each fold is the validation set, and no threshold is chosen."""


@dataclass(frozen=True)
class CrossValidation:
    """The result of `cross_validate`.

    Attributes:
        folds: The scores of each fold, from the model trained on all others.
        seconds: Total seconds per stage, over all folds.
    """

    folds: list[Scores]
    seconds: dict[str, float]

    def summary(self) -> dict[str, tuple[float, float]]:
        """Returns the mean and the standard deviation of each metric over the folds.

        Returns:
            (mean, standard deviation) by the name of the metric.
        """
        figures = {key: [one.metrics[key] for one in self.folds] for key in self.folds[0].metrics}
        return {key: (statistics.mean(values), statistics.stdev(values)) for key, values in figures.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain dictionaries and lists."""
        return {
            "folds": [one.to_json() for one in self.folds],
            "mean": {key: mean for key, (mean, _) in self.summary().items()},
            "standard_deviation": {key: deviation for key, (_, deviation) in self.summary().items()},
            "seconds": self.seconds,
        }


def cross_validate(
    data: Data,
    *,
    folds: int = 5,
    method: Method | str | Sequence[Method | str] | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> CrossValidation:
    """Trains once per fold on the rows of the other folds, and scores the rows of the fold.

    It estimates the quality of settings when there are few rows. No bundle is written.

    Args:
        data: Labelled text: the path of a file or folder, a list of dicts or of (text, label) pairs, a dict of
            columns, or a frame of pandas, Polars, Arrow or Hugging Face Datasets; see `read_examples`.
        folds: Number of folds. Each has the same share of every label.
        method: The method or its name; `LoRA()` by default. A sequence of methods is combined into one
            adapter.
        progress: Receives progress events: an instance of `keras_peft.progress.Progress`. By default, bars are
            shown on a terminal and in a notebook; `Progress()` shows nothing.
        settings: Training settings: any argument of `Settings` except `validation` and
            `abstain_below`.

    Returns:
        The scores of each fold.

    Raises:
        KerasPeftError: If an argument or the data cannot be used.

    Example:
        >>> keras_peft.cross_validate("conversations.jsonl", folds=4).summary()["accuracy"]
        (0.85, 0.03)
    """
    check_installed()
    progress, stopwatch = shown(progress), Stopwatch()
    chosen = Settings.of(settings, without=WITHOUT)
    examples = read_training(data, chosen, progress)
    scored = []
    for number, (training, held_out) in enumerate(make_folds(examples, folds, seed=chosen.seed), 1):
        progress.stage(f"Fold {number} of {folds}")
        scored.append(
            _score(
                training,
                held_out,
                chosen_methods(method),
                chosen,
                progress,
                stopwatch,
            )
        )
    return CrossValidation(scored, stopwatch.read())


def make_folds(examples: Examples, folds: int, *, seed: int) -> list[tuple[Examples, Examples]]:
    """Splits examples into folds with the same share of every label.

    Args:
        examples: Examples from `check_trainable`.
        folds: Number of folds.
        seed: Random seed. The same seed gives the same folds.

    Returns:
        (training, held-out) examples for each fold, in the order of the file.

    Raises:
        OptionError: If `folds` is less than 2 or greater than the number of examples.
    """
    import numpy as np

    if not 2 <= folds <= len(examples):
        raise OptionError(f"`folds={folds}`: expected from 2 to the number of rows, {len(examples)}.")
    place = fold_numbers(examples, folds, seed=seed)
    found = []
    for part in range(folds):
        held_out = examples.pick(np.flatnonzero(place == part))
        found.append((examples.pick(np.flatnonzero(place != part)).knowing(held_out), held_out))
    return found


def _score(
    training: Examples,
    held_out: Examples,
    methods: Sequence[Method],
    settings: Settings,
    progress: Progress,
    stopwatch: Stopwatch,
) -> Scores:
    done = train_once(
        training, methods, settings, validation=held_out, progress=progress, stopwatch=stopwatch
    )
    return done.prepared.task.score(done.outcome.outputs, done.prepared.task.targets(held_out.labels))
