"""Studies with simulated methods, which are right in rows of different difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from keras_peft.comparing.results import Candidate, Result, Study
from keras_peft.tasks import find

TASK = find("single-label")(("no", "yes"))
# How much the difficulty of a row counts, and how much chance in each row and training.
ROWS, CHANCE = 1.4, 0.8


def difficulty(rows: int, seed: int) -> np.ndarray:
    return ROWS * np.random.default_rng(seed).normal(size=rows)


def right(
    accuracy: float,
    difficulties: np.ndarray,
    generator: np.random.Generator,
    *,
    seeds: int = 3,
    spread: float = 0.0,
) -> list[np.ndarray]:
    """Whether each row is right, for each seed; `spread` is the deviation of the accuracy by the seed."""
    whole = float(np.hypot(ROWS, CHANCE))
    normal = NormalDist()
    mean = normal.inv_cdf(accuracy)
    shift = spread / normal.pdf(mean) * whole * generator.normal(size=(seeds, 1))
    noise = CHANCE * generator.normal(size=(seeds, len(difficulties)))
    return list(mean * whole + difficulties + shift + noise > 0)


def counts(rows: np.ndarray) -> np.ndarray:
    return np.stack([rows, np.ones(len(rows))], axis=1).astype(float)


def study(scored: Mapping[str, Sequence[np.ndarray]], **changes) -> Study:
    """A study of candidates; those whose name ends in "!" are yardsticks."""
    (rows,) = {len(one) for own in scored.values() for one in own}
    settings = {
        "data": "texts.csv",
        "task": "single-label",
        "metric": "accuracy",
        "labels": ["no", "yes"],
        "rows": 4 * rows,
        "test_rows": rows,
        "how": "test",
        "base": "minilm",
        "seeds": 3,
        "left_out": [],
        "machine": {"cores": 2},
        "candidates": [Candidate(name=name, kind=kind(name), title=name.title()) for name in scored],
    }
    return Study(**{**settings, **changes})


def kind(name: str) -> str:
    return "yardstick" if name.endswith("!") else "method"


def results(
    scored: Mapping[str, Sequence[np.ndarray]],
    *,
    seconds: Mapping[str, float] | None = None,
    parameters: Mapping[str, int] | None = None,
    folds: int | None = None,
) -> list[Result]:
    """The results of a study; with `folds`, each seed is a cross-validation."""
    made = []
    for name, own in scored.items():
        for seed, rows in enumerate(own):
            for fold in range(folds) if folds else [None]:
                places = np.arange(len(rows)) if fold is None else np.arange(fold, len(rows), folds)
                made.append(
                    Result(
                        candidate=name,
                        kind=kind(name),
                        seed=seed,
                        fold=fold,
                        counts=counts(rows[places]).tolist(),
                        metrics={"accuracy": float(rows[places].mean())},
                        trainable_parameters=(parameters or {}).get(name),
                        train_seconds=(seconds or {}).get(name, 10.0),
                        peak_mb=1500.0,
                        adapter_bytes=600_000,
                        latency_ms=12.0,
                        train_rows=3 * len(rows) if fold is None else len(rows) - len(places),
                        test_rows=places.tolist(),
                        settings={},
                        version="1",
                    )
                )
    return made
