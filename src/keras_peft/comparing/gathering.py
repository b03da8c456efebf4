"""From stored results to evidence: which rows and seeds of the candidates are compared with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

from keras_peft.comparing.bootstrap import RowBootstrap, widening_of_folds
from keras_peft.errors import DataError, listed

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.comparing.results import Result
    from keras_peft.tasks import Task


def by_candidate(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Returns the results of each candidate that can be compared, in the order of their seeds and folds.

    Seeds whose cross-validation is not complete are left out.

    Args:
        results: Results of all candidates.
    """
    folds = {one.fold for one in results}
    found: dict[str, dict[int, list[Result]]] = {}
    for result in sorted(results, key=lambda one: (one.seed, one.fold or 0)):
        found.setdefault(result.candidate, {}).setdefault(result.seed, []).append(result)
    complete = {
        name: [one for own in seeds.values() if {one.fold for one in own} >= folds - {None} for one in own]
        for name, seeds in found.items()
    }
    return {name: own for name, own in complete.items() if own}


def gather(task: Task, results: Sequence[Result], *, resamples: int | None = None) -> RowBootstrap:
    """Returns what results say about their candidates and the differences between them.

    Args:
        task: The task of the data.
        results: The results: either all on the same test rows, or on the folds of cross-validations.
        resamples: Number of resamples; by default, it suffices for the correction for all pairs.

    Raises:
        DataError: If no candidate has enough results, or they do not belong together.
    """
    if len({one.fold is None for one in results}) > 1:
        raise DataError(
            "Some results are those of test rows and others those of a cross-validation; expected one kind."
        )
    grouped = by_candidate(results)
    if not grouped:
        raise DataError("No candidate has results yet; run the comparison again to finish it.")
    used = [one for own in grouped.values() for one in own]
    if problems := _problems(task, used):
        raise DataError(f"The results of the comparison do not belong together. {' '.join(problems)}")
    counts = {
        name: [_counts(list(seed)) for _, seed in groupby(own, key=lambda one: one.seed)]
        for name, own in grouped.items()
    }
    folds = len({one.fold for one in used} - {None})
    share = fmean(len(one.test_rows) / max(one.train_rows, 1) for one in used)
    return RowBootstrap(
        counts,
        task.from_counts,
        widening=widening_of_folds(folds, share) if folds else 1.0,
        resamples=resamples,
    )


def _problems(task: Task, results: Sequence[Result]) -> list[str]:
    """Returns a sentence for each reason why results cannot be compared."""
    import numpy as np

    found = []
    times = Counter((one.candidate, one.seed, one.fold) for one in results)
    if twice := [name for (name, _, _), count in times.items() if count > 1]:
        found.append(f"{listed(sorted(set(twice)))} has two results for the same seed and fold.")
    if uneven := {one.candidate for one in results if len(one.counts) != len(one.test_rows)}:
        found.append(f"{listed(sorted(uneven))} has not one list of counts for each test row.")
    if len({tuple(sorted(_rows(seed))) for seed in _seeds(results)}) > 1 or not results[0].test_rows:
        found.append("The candidates were scored on different rows, or on none.")
    widths = {len(counts) for one in results for counts in one.counts}
    try:
        task.from_counts(np.zeros((1, max(widths, default=0))))
    except IndexError:
        found.append(f"The counts are not those of the task {task.name}.")
    if len(widths) > 1:
        found.append("The rows have different numbers of counts.")
    return found


def _seeds(results: Sequence[Result]) -> list[list[Result]]:
    """Returns the results of each candidate and seed."""
    found: dict[tuple[str, int], list[Result]] = {}
    for one in results:
        found.setdefault((one.candidate, one.seed), []).append(one)
    return list(found.values())


def _rows(results: Sequence[Result]) -> list[int]:
    return [row for one in results for row in one.test_rows]


def _counts(results: Sequence[Result]) -> np.ndarray:
    """Returns the counts of a seed in the order of the rows in the data."""
    import numpy as np

    order = np.argsort(np.array(_rows(results)), kind="stable")
    return np.concatenate([np.array(one.counts, float) for one in results])[order]
