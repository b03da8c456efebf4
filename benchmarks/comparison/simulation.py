"""How often the test of `keras-peft compare` finds a difference where there is none, and where there is one.

    python -m benchmarks.comparison.simulation                print the tables
    python -m benchmarks.comparison.simulation --quick        with few repetitions

Simulated methods are right in a row if its difficulty, and chance in this row and training, allow it. The difficulties
are the same for all methods. The accuracy of a whole training also depends on its seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import combinations
from statistics import NormalDist
from unittest import mock

import numpy as np
from scipy.stats import t

from keras_peft.comparing import bootstrap
from keras_peft.comparing.bootstrap import RowBootstrap, widening_of_folds
from keras_peft.comparing.statistics import holm

SEEDS = 3
ROWS = (240, 600)
ACCURACIES = (0.7, 0.85, 0.96)
# The standard deviation of the accuracy by the seed, apart from that by the rows.
SPREADS = (0.0, 0.006, 0.012)
DIFFERENCES = (0.02, 0.05)
METHODS = 22
PAIRS = METHODS * (METHODS - 1) // 2
# Deviations of the difficulty of the rows, and of chance: a row is often decided the same by all seeds, or not.
STRUCTURES = ((2.0, 0.5), (0.7, 0.7))
LEVEL = 0.05
FOLDS, SPREAD_OF_FOLDS = 5, 0.01
_RESAMPLES, _RESAMPLES_OF_MANY = 1_000, 14_000


def drawn(
    accuracies: list[float], rows: int, spread: float, structure: tuple[float, float], seed: int
) -> dict[str, list[np.ndarray]]:
    """Draws the counts of the rows for each method and seed.

    Args:
        accuracies: Accuracy of each method.
        rows: Number of test rows.
        spread: Standard deviation of the accuracy by the seed.
        structure: Deviations of the difficulty of the rows and of chance.
        seed: Seed of the simulation.
    """
    generator, normal = np.random.default_rng(seed), NormalDist()
    whole = float(np.hypot(*structure))
    difficulties = structure[0] * generator.normal(size=rows)
    found = {}
    for number, accuracy in enumerate(accuracies):
        mean = normal.inv_cdf(accuracy)
        shift = spread / normal.pdf(mean) * whole * generator.normal(size=(SEEDS, 1))
        noise = structure[1] * generator.normal(size=(SEEDS, rows))
        right = mean * whole + difficulties + shift + noise > 0
        found[f"method {number}"] = [np.stack([one, np.ones(rows)], axis=1).astype(float) for one in right]
    return found


def accuracy_of(sums: np.ndarray) -> np.ndarray:
    """Computes the accuracy from sums of right rows and of rows."""
    return sums[..., 0] / sums[..., 1]


def found_apart(difference: float, rows: int, accuracy: float, spread: float, repetitions: int) -> float:
    """Returns how often two methods with a difference are told apart."""
    apart = 0
    for repetition in range(repetitions):
        structure = STRUCTURES[repetition % len(STRUCTURES)]
        scored = drawn([accuracy, accuracy - difference], rows, spread, structure, repetition)
        evidence = RowBootstrap(scored, accuracy_of, resamples=_RESAMPLES, seed=repetition)
        apart += evidence.difference("method 0", "method 1").p < LEVEL
    return apart / repetitions


def any_apart(rows: int, spread: float, repetitions: int) -> tuple[float, float]:
    """Returns how often any of many equal methods is told apart from the one that happens to be the best.

    Returns:
        With a correction for all pairs, and for the comparisons with the best only.
    """
    pairs_found = best_found = 0
    for repetition in range(repetitions):
        structure = STRUCTURES[repetition % len(STRUCTURES)]
        scored = drawn([0.88] * METHODS, rows, spread, structure, repetition)
        evidence = RowBootstrap(scored, accuracy_of, resamples=_RESAMPLES_OF_MANY, seed=repetition)
        best = max(evidence.names, key=lambda name: evidence.estimate(name).value)
        pairs = list(combinations(evidence.names, 2))
        values = [evidence.difference(*pair).p for pair in pairs]
        corrected = holm(values)
        with_best = [number for number, pair in enumerate(pairs) if best in pair]
        pairs_found += min(corrected[number] for number in with_best) < LEVEL
        best_found += min(holm([values[number] for number in with_best])) < LEVEL
    return pairs_found / repetitions, best_found / repetitions


def apart_in_folds(
    difference: float, rows: int, seeds: int, level: float, repetitions: int
) -> tuple[float, float]:
    """Returns how often two methods are told apart by cross-validations with five folds.

    The trainings of a fold vary by a hundredth, half of which (of the variance) all folds and seeds share, as they do
    the rows.

    Returns:
        With Nadeau and Bengio's corrected resampled t-test, and with the bootstrap widened by their factor.
    """
    found = np.zeros(2)
    for repetition in range(repetitions):
        structure = STRUCTURES[repetition % len(STRUCTURES)]
        generator = np.random.default_rng(repetition)
        folds = [generator.permutation(rows) % FOLDS for _ in range(seeds)]
        difficulties = structure[0] * generator.normal(size=rows)
        one, other = (
            _folded(accuracy, difficulties, folds, structure[1], generator)
            for accuracy in (0.88, 0.88 - difference)
        )
        apart = [
            float((a - b)[fold == number].mean())
            for a, b, fold in zip(one, other, folds, strict=True)
            for number in range(FOLDS)
        ]
        error = np.sqrt((1 / len(apart) + 1 / (FOLDS - 1)) * np.var(apart, ddof=1))
        p = 2 * t.sf(abs(np.mean(apart)) / error, len(apart) - 1) if error else 1.0
        counts = {
            name: [np.stack([right, np.ones(rows)], axis=1).astype(float) for right in own]
            for name, own in (("one", one), ("other", other))
        }
        evidence = RowBootstrap(
            counts,
            accuracy_of,
            widening=widening_of_folds(FOLDS, 1 / (FOLDS - 1)),
            resamples=round(10 / level),
            seed=repetition,
        )
        found += [p < level, evidence.difference("one", "other").p < level]
    return float(found[0] / repetitions), float(found[1] / repetitions)


def _folded(
    accuracy: float,
    difficulties: np.ndarray,
    folds: list[np.ndarray],
    chance: float,
    generator: np.random.Generator,
) -> list[np.ndarray]:
    """Draws which rows are right for each seed, as ones and zeros."""
    normal = NormalDist()
    mean, whole = normal.inv_cdf(accuracy), float(np.hypot(difficulties.std(), chance))
    scale = SPREAD_OF_FOLDS / normal.pdf(mean) * whole * np.sqrt(0.5)
    common = generator.normal()
    found = []
    for fold in folds:
        shift = scale * (common + generator.normal(size=FOLDS))[fold]
        noise = chance * generator.normal(size=len(difficulties))
        found.append((mean * whole + difficulties + shift + noise > 0).astype(float))
    return found


def without_effect() -> mock._patch:
    """Makes the bootstrap one of the rows alone."""
    return mock.patch.object(bootstrap, "_seed_effects", lambda by_seed, within: np.zeros(len(by_seed)))


def tables(repetitions: int) -> Iterator[str]:
    """Yields the lines of the tables, as they are computed."""
    spreads = " | ".join(f"spread {spread:g}" for spread in SPREADS)
    for title, differences, sizes in (
        ("told apart from itself", (0.0,), ROWS),
        ("told apart from a worse method", DIFFERENCES, (600, 2_000)),
    ):
        yield f"\n| {title} | rows only: {spreads} | with the seed: {spreads} |"
        yield "|---" * (1 + 2 * len(SPREADS)) + "|"
        for difference in differences:
            for rows in sizes:
                cells = []
                for context in (without_effect, nullcontext):
                    with context():
                        cells += [
                            np.mean(
                                [
                                    found_apart(difference, rows, one, spread, repetitions)
                                    for one in ACCURACIES
                                ]
                            )
                            for spread in SPREADS
                        ]
                name = f"{rows:,} rows" + (f", {difference} worse" if difference else "")
                yield f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |"
    yield "\n| cross-validation | corrected t-test | widened bootstrap |"
    yield "|---|---|---|"
    for level, differences in ((LEVEL, (0.0, 0.05, 0.1)), (LEVEL / PAIRS, (0.05, 0.1))):
        for difference in differences:
            for rows in ROWS:
                for seeds in (1, SEEDS):
                    old, new = apart_in_folds(difference, rows, seeds, level, repetitions)
                    name = f"{rows} rows, {seeds} seeds, {difference} worse, level {level:.2g}"
                    yield f"| {name} | {old:.3f} | {new:.3f} |"
    yield f"\n| any of {METHODS} equal methods below the best | all pairs | with the best only |"
    yield "|---|---|---|"
    for rows in ROWS:
        for spread in SPREADS[:2]:
            every, best = any_apart(rows, spread, repetitions)
            yield f"| {rows} rows, spread {spread:g} | {every:.3f} | {best:.3f} |"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="two repetitions, as a test of the program")
    arguments = parser.parse_args()
    for line in tables(2 if arguments.quick else arguments.repetitions):
        print(line, flush=True)


if __name__ == "__main__":
    main()
