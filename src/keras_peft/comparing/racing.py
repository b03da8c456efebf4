"""Which candidates are not worth more seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_peft.comparing.gathering import by_candidate, gather
from keras_peft.comparing.statistics import LEVEL, holm

if TYPE_CHECKING:
    from keras_peft.comparing.results import Result
    from keras_peft.tasks import Task

SEED_MARGIN = 0.01
"""One seed does not show how much the quality depends on it, so a difference of this size is not counted."""
# For the correction for a hundred candidates; this runs after each training.
_RESAMPLES = 5_000


def clearly_beaten(task: Task, results: Sequence[Result]) -> set[str]:
    """Finds the candidates that are clearly below the best method, so that they need no more seeds.

    The test is one-sided and corrected by Holm for the number of candidates: the best method is among the beaten with
    a probability of at most 0.05, up to what one seed cannot show.

    Args:
        task: The task of the data.
        results: The results so far, such as those of seed 0.

    Returns:
        Names of candidates; empty if fewer than two can be compared.

    Raises:
        DataError: If the results do not belong together.
    """
    names = list(by_candidate(results))
    if len(names) < 2:
        return set()
    evidence = gather(task, results, resamples=_RESAMPLES)
    kinds = {one.candidate: one.kind for one in results}
    # A better yardstick, such as full fine-tuning, makes no method superfluous.
    methods = [name for name in names if kinds[name] == "method"] or names
    best = max(methods, key=lambda name: evidence.estimate(name).value)
    others = [name for name in names if name != best]
    corrected = holm([evidence.p_of_more(best, name, SEED_MARGIN) for name in others])
    return {name for name, p in zip(others, corrected, strict=True) if p < 1 - LEVEL}
