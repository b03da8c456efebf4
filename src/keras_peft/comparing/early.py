"""Ends trainings early whose validation scores are far below those of others after the same epoch.

The test rows decide nothing here: only validation rows do, which are part of the rows to train on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from keras_peft.comparing.jobs import Job
from keras_peft.tasks import metric_name, wilson

_METRIC = "accuracy"
# Share of the epochs before which no training is ended: some methods learn late.
_PATIENCE = 0.5


class Early:
    """Compares the validation scores of trainings with the same rows.

    Works for accuracies, whose intervals are known; of other metrics, no training is ended.

    Args:
        metric: Key of the main metric.
        ends: Names of the candidates whose trainings may be ended.
    """

    def __init__(self, metric: str, ends: Sequence[str]) -> None:
        self._ends = frozenset(ends) if metric == _METRIC else frozenset()
        self._scores: dict[Job, list[float]] = defaultdict(list)
        self._finished: set[Job] = set()
        self._beaten: dict[Job, str] = {}

    def epoch(self, job: Job, event: Mapping[str, Any]) -> None:
        """Compares an epoch with the same one of finished trainings.

        Args:
            job: The training.
            event: The `epoch`, counted from 1, the number of `epochs`, the `score` on the validation rows or None,
                and the number of these `rows`.
        """
        if event["score"] is None or not event["rows"]:
            return
        scores = self._scores[job]
        scores.append(event["score"])
        epoch, rows = event["epoch"], event["rows"]
        if job.candidate not in self._ends or epoch < _PATIENCE * event["epochs"] or epoch != len(scores):
            return
        leader = self._leader(job, epoch)
        if leader is None or epoch == event["epochs"]:
            return
        best = self._scores[leader][epoch - 1]
        if wilson(scores[-1], rows)[1] < wilson(best, rows)[0]:
            self._beaten[job] = (
                f"{job.candidate} was stopped after epoch {epoch} of {event['epochs']}, because its validation "
                f"{metric_name(_METRIC)} was {scores[-1]:.3f}, and that of {leader.candidate} after the same epoch "
                f"{best:.3f}."
            )

    def finished(self, job: Job) -> None:
        """Lets later trainings be compared with a training."""
        self._finished.add(job)

    def is_beaten(self, job: Job) -> bool:
        """Returns whether a training is far below another one."""
        return job in self._beaten

    def sentence(self, job: Job) -> str | None:
        """Returns why a training was ended, None if it was not ended here."""
        return self._beaten.get(job)

    def _leader(self, job: Job, epoch: int) -> Job | None:
        """Returns the best finished training on the same rows after an epoch."""
        others = [
            one
            for one in self._finished
            if (one.seed, one.fold) == (job.seed, job.fold) and len(self._scores[one]) >= epoch
        ]
        return max(others, key=lambda one: self._scores[one][epoch - 1], default=None)
