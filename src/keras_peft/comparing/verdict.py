"""The verdict on a comparison: which candidates can be told apart, and which one to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from keras_peft import tasks
from keras_peft.comparing.bootstrap import RowBootstrap
from keras_peft.comparing.candidates import is_trained
from keras_peft.comparing.gathering import by_candidate, gather
from keras_peft.comparing.statistics import LEVEL, Difference, Estimate, holm, least_found, rows_needed

if TYPE_CHECKING:
    from keras_peft.comparing.results import Candidate, Result, Study

MARGIN = 0.02
"""A difference in quality that matters. A recommended method is observed at most so far below the best."""

Place = Literal["best", "same", "below"]


@dataclass(frozen=True)
class Standing:
    """What a candidate reached.

    Attributes:
        candidate: The candidate.
        quality: The main metric with its interval, the mean of the seeds.
        place: "best" for the highest quality, "same" if it cannot be told apart from the best, else "below".
        against_best: How far it is above the best; None for the best itself.
        p: p-value of this difference, corrected for all pairs of candidates; None for the best itself.
        seeds: Number of seeds.
        trainable_parameters: Number of trainable parameters, if there are any to count.
        train_seconds: Mean duration of a training.
        peak_mb: Highest memory of the process, in MB, if it was measured.
        adapter_bytes: Size of the adapter's files, if there are any.
        latency_ms: Median duration of the prediction of one row, if it was measured.
    """

    candidate: Candidate
    quality: Estimate
    place: Place
    against_best: Difference | None
    p: float | None
    seeds: int
    trainable_parameters: int | None
    train_seconds: float
    peak_mb: float | None
    adapter_bytes: int | None
    latency_ms: float | None

    @property
    def is_method(self) -> bool:
        """Whether the candidate is a method, not a yardstick."""
        return self.candidate.kind == "method"


@dataclass(frozen=True)
class Verdict:
    """What a comparison shows.

    Attributes:
        study: The study.
        standings: The candidates, from the highest to the lowest quality.
        recommended: The recommended candidate; None if a yardstick that cannot be trained is clearly above all methods.
        cheapest: The method that trains fastest among those that cannot be told apart from the best, if any.
        smallest: The one of them with the fewest trainable parameters, if any.
        needed: About how many rows it takes to find a difference of 0.02 between two candidates, and how many if all
            are compared; None with a single candidate.
        depends_on_seeds: Whether more rows alone would not show such a difference, because the seeds differ so much.
        missing: Candidates without enough results.
    """

    study: Study
    standings: tuple[Standing, ...]
    recommended: Standing | None
    cheapest: Standing | None
    smallest: Standing | None
    needed: tuple[int, int] | None
    depends_on_seeds: bool
    missing: tuple[Candidate, ...]

    @property
    def best(self) -> Standing:
        """The candidate with the highest quality."""
        return self.standings[0]

    @property
    def best_method(self) -> Standing | None:
        """The method with the highest quality, if there is any."""
        return next((one for one in self.standings if one.is_method), None)

    @property
    def same(self) -> tuple[Standing, ...]:
        """The candidates that cannot be told apart from the best."""
        return tuple(one for one in self.standings if one.place == "same")

    def to_json(self) -> dict[str, Any]:
        """Returns the verdict as plain values."""
        return {
            "recommended": self.recommended and self.recommended.candidate.name,
            "cheapest": self.cheapest and self.cheapest.candidate.name,
            "smallest": self.smallest and self.smallest.candidate.name,
            "depends_on_seeds": self.depends_on_seeds,
            "rows_needed": self.needed and {"two": self.needed[0], "all": self.needed[1]},
            "missing": [one.name for one in self.missing],
            "candidates": [
                {**msgspec.to_builtins(one.candidate), **asdict(one), "candidate": one.candidate.name}
                for one in self.standings
            ],
        }


def judge(study: Study, results: Sequence[Result]) -> Verdict:
    """Compares the candidates of a study.

    Each two of them are compared on the same rows, and the p-values are corrected for all pairs. So it does no harm
    that the best one is chosen on the rows that it is compared on.

    Args:
        study: The study.
        results: Its results.

    Returns:
        The verdict.

    Raises:
        DataError: If there are no results, or they do not belong together.

    Example:
        >>> judge(study, results).recommended.candidate.title
        'LoRA'
    """
    candidates = {one.name: one for one in study.candidates}
    results = [one for one in results if one.candidate in candidates]
    evidence = gather(tasks.find(study.task).from_config(study.labels or (), {}), results)
    grouped = by_candidate(results)
    corrected = _corrected(evidence)
    quality = {name: evidence.estimate(name) for name in evidence.names}
    best = max(evidence.names, key=lambda name: quality[name].value)
    standings = [
        _standing(
            candidates[name],
            quality[name],
            None if name == best else evidence.difference(name, best),
            corrected.get(frozenset((name, best))),
            grouped[name],
        )
        for name in sorted(evidence.names, key=lambda name: (-quality[name].value, name != best))
    ]
    differences = [one.against_best for one in standings if one.against_best is not None]
    alike = [one for one in standings if one.is_method and one.place != "below"]
    counted = [one for one in alike if one.trainable_parameters is not None]
    return Verdict(
        study=study,
        standings=tuple(standings),
        recommended=_recommended(standings, alike),
        cheapest=min(alike, key=lambda one: one.train_seconds, default=None),
        smallest=min(counted, key=lambda one: one.trainable_parameters or 0, default=None),
        needed=_needed(differences, len(standings), study.test_rows),
        depends_on_seeds=bool(differences)
        and least_found(median(one.seed_error for one in differences)) > MARGIN,
        missing=tuple(one for one in study.candidates if one.name not in grouped),
    )


def _corrected(evidence: RowBootstrap) -> dict[frozenset[str], float]:
    """Returns the p-value of each pair of candidates, corrected for all pairs."""
    pairs = list(combinations(evidence.names, 2))
    values = holm([evidence.difference(one, other).p for one, other in pairs])
    return {frozenset(pair): value for pair, value in zip(pairs, values, strict=True)}


def _standing(
    candidate: Candidate,
    quality: Estimate,
    against_best: Difference | None,
    p: float | None,
    own: Sequence[Result],
) -> Standing:
    place: Place = "best"
    if against_best is not None:
        place = "below" if p is not None and p < 1 - LEVEL else "same"
    memory = [one.peak_mb for one in own if one.peak_mb is not None]
    sizes = [one.adapter_bytes for one in own if one.adapter_bytes is not None]
    latencies = [one.latency_ms for one in own if one.latency_ms is not None]
    parameters = [one.trainable_parameters for one in own if one.trainable_parameters is not None]
    return Standing(
        candidate=candidate,
        quality=quality,
        place=place,
        against_best=against_best,
        p=p,
        seeds=len({one.seed for one in own}),
        trainable_parameters=max(parameters, default=None),
        train_seconds=fmean(one.train_seconds for one in own),
        peak_mb=max(memory, default=None),
        adapter_bytes=max(sizes, default=None),
        latency_ms=median(latencies) if latencies else None,
    )


def _recommended(standings: Sequence[Standing], alike: Sequence[Standing]) -> Standing | None:
    """Returns the method that trains fastest among those next to the best.

    Few rows tell no two candidates apart. So it must not only be impossible to tell a method apart from the best: its
    quality must be close to it, too.
    """
    best = standings[0]
    if near := [one for one in alike if best.quality.value - one.quality.value <= MARGIN]:
        return min(near, key=lambda one: one.train_seconds)
    if alike:
        return alike[0]
    # A yardstick such as full fine-tuning is a method of the package, too.
    return next((one for one in standings if one.place != "below" and is_trained(one.candidate.name)), None)


def _needed(differences: Sequence[Difference], candidates: int, rows: int) -> tuple[int, int] | None:
    """Estimates the rows for a difference of 0.02, from the differences of each candidate to the best, row by row."""
    if not differences:
        return None
    error = median(one.error for one in differences)
    pairs = candidates * (candidates - 1) // 2
    return rows_needed(error, rows, MARGIN), rows_needed(error, rows, MARGIN, pairs)
