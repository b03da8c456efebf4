"""From stored results to evidence: which rows and seeds of the candidates are compared with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from keras_peft import tasks
from keras_peft.comparing.bootstrap import RowBootstrap
from keras_peft.comparing.folds import CorrectedFolds
from keras_peft.errors import DataError, listed

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.comparing.results import Result, Study
    from keras_peft.comparing.statistics import Evidence

# A cross-validation with fewer scored folds shows no variance.
_FEWEST_FOLDS = 2


def by_candidate(study: Study, results: Sequence[Result]) -> dict[str, list[Result]]:
    """Returns the results of each candidate that has enough to be compared, in the order of the study.

    Args:
        study: The study.
        results: Its results, of all candidates.
    """
    least = 1 if study.how == "test" else _FEWEST_FOLDS
    found: dict[str, list[Result]] = {one.name: [] for one in study.candidates}
    for result in results:
        found.setdefault(result.candidate, []).append(result)
    return {
        one.name: sorted(found[one.name], key=lambda result: (result.seed, result.fold or 0))
        for one in study.candidates
        if len(found[one.name]) >= least
    }


def gather(study: Study, results: Sequence[Result]) -> Evidence:
    """Returns what the results say about the candidates and their differences.

    Args:
        study: The study.
        results: Its results; at least one candidate has enough of them.

    Returns:
        A paired bootstrap if test rows were scored, a corrected t-test after a cross-validation.

    Raises:
        DataError: If the results do not belong together.
        OptionError: If there is no task of that name.
    """
    grouped = by_candidate(study, results)
    if not grouped:
        raise DataError(f"{study.data}: no candidate has results yet; run the comparison again to finish it.")
    used = [one for own in grouped.values() for one in own]
    metric = tasks.find(study.task).from_config(study.labels or (), {}).from_counts
    if problems := _problems(study, used, metric):
        raise DataError(f"The results of the comparison do not belong together: {' '.join(problems)}")
    if study.how == "test":
        return RowBootstrap({name: [_counts(one) for one in own] for name, own in grouped.items()}, metric)
    scores = {
        name: {(one.seed, one.fold or 0): _score(one, metric) for one in own} for name, own in grouped.items()
    }
    share = sum(len(one.test_rows) / max(one.train_rows, 1) for one in used) / len(used)
    return CorrectedFolds(scores, share)


def _problems(
    study: Study, results: Sequence[Result], metric: Callable[[np.ndarray], np.ndarray]
) -> list[str]:
    """Returns a sentence for each reason why results cannot be compared."""
    import numpy as np

    found = []
    times = Counter((one.candidate, one.seed, one.fold) for one in results)
    if twice := [name for (name, _, _), count in times.items() if count > 1]:
        found.append(f"{listed(sorted(set(twice)))} has two results for the same seed and fold.")
    if uneven := {one.candidate for one in results if len(one.counts) != len(one.test_rows)}:
        found.append(f"{listed(sorted(uneven))} has not one list of counts for each test row.")
    rows: dict[tuple[int, int] | None, set[tuple[int, ...]]] = {}
    for one in results:
        place = None if study.how == "test" else (one.seed, one.fold or 0)
        rows.setdefault(place, set()).add(tuple(sorted(one.test_rows)))
    if any(len(sets) > 1 for sets in rows.values()) or any(not own for sets in rows.values() for own in sets):
        found.append("The candidates were scored on different rows, or on none.")
    widths = {len(counts) for one in results for counts in one.counts}
    try:
        metric(np.zeros((1, max(widths, default=0))))
    except IndexError:
        found.append(f"The counts are not those of the task {study.task}.")
    if len(widths) > 1:
        found.append("The rows have different numbers of counts.")
    return found


def _counts(result: Result) -> np.ndarray:
    """Returns the counts in the order of the rows in the data."""
    import numpy as np

    order = np.argsort(np.array(result.test_rows), kind="stable")
    return np.asarray(np.array(result.counts, float)[order])


def _score(result: Result, metric: Callable[[np.ndarray], np.ndarray]) -> float:
    return float(metric(_counts(result).sum(axis=0)))
