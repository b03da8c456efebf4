"""From stored results to evidence: which rows and seeds of the candidates are compared with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_peft.comparing.bootstrap import RowBootstrap
from keras_peft.comparing.folds import CorrectedFolds
from keras_peft.errors import DataError, listed

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.comparing.results import Result
    from keras_peft.comparing.statistics import Evidence
    from keras_peft.tasks import Task

# A cross-validation with fewer scored folds shows no variance.
_FEWEST_FOLDS = 2


def by_candidate(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Returns the results of each candidate that has enough to be compared, in the order of their seeds and folds.

    Args:
        results: Results of all candidates.
    """
    found: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda one: (one.seed, one.fold or 0)):
        found.setdefault(result.candidate, []).append(result)
    least = _FEWEST_FOLDS if _is_folded(results) else 1
    return {name: own for name, own in found.items() if len(own) >= least}


def gather(task: Task, results: Sequence[Result]) -> Evidence:
    """Returns what results say about their candidates and the differences between them.

    Args:
        task: The task of the data.
        results: The results.

    Returns:
        A paired bootstrap if test rows were scored, a corrected t-test after a cross-validation.

    Raises:
        DataError: If no candidate has enough results, or they do not belong together.
    """
    grouped = by_candidate(results)
    if not grouped:
        raise DataError("No candidate has results yet; run the comparison again to finish it.")
    used = [one for own in grouped.values() for one in own]
    metric = task.from_counts
    if problems := _problems(task, used):
        raise DataError(f"The results of the comparison do not belong together. {' '.join(problems)}")
    if not _is_folded(used):
        return RowBootstrap({name: [_counts(one) for one in own] for name, own in grouped.items()}, metric)
    scores = {
        name: {(one.seed, one.fold or 0): float(metric(_counts(one).sum(axis=0))) for one in own}
        for name, own in grouped.items()
    }
    share = sum(len(one.test_rows) / max(one.train_rows, 1) for one in used) / len(used)
    return CorrectedFolds(scores, share)


def _is_folded(results: Sequence[Result]) -> bool:
    return any(one.fold is not None for one in results)


def _problems(task: Task, results: Sequence[Result]) -> list[str]:
    """Returns a sentence for each reason why results cannot be compared."""
    import numpy as np

    found = []
    times = Counter((one.candidate, one.seed, one.fold) for one in results)
    if twice := [name for (name, _, _), count in times.items() if count > 1]:
        found.append(f"{listed(sorted(set(twice)))} has two results for the same seed and fold.")
    if uneven := {one.candidate for one in results if len(one.counts) != len(one.test_rows)}:
        found.append(f"{listed(sorted(uneven))} has not one list of counts for each test row.")
    if len({one.fold is None for one in results}) > 1:
        found.append("Some were scored on test rows and others by cross-validation.")
    rows: dict[tuple[int, int] | None, set[tuple[int, ...]]] = {}
    for one in results:
        place = None if one.fold is None else (one.seed, one.fold)
        rows.setdefault(place, set()).add(tuple(sorted(one.test_rows)))
    if any(len(sets) > 1 for sets in rows.values()) or any(not own for sets in rows.values() for own in sets):
        found.append("The candidates were scored on different rows, or on none.")
    widths = {len(counts) for one in results for counts in one.counts}
    try:
        task.from_counts(np.zeros((1, max(widths, default=0))))
    except IndexError:
        found.append(f"The counts are not those of the task {task.name}.")
    if len(widths) > 1:
        found.append("The rows have different numbers of counts.")
    return found


def _counts(result: Result) -> np.ndarray:
    """Returns the counts in the order of the rows in the data."""
    import numpy as np

    order = np.argsort(np.array(result.test_rows), kind="stable")
    return np.asarray(np.array(result.counts, float)[order])
