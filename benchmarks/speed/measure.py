"""Runs the selected measurements in order: skips known results, reports failures and continues."""

from __future__ import annotations

import os
import sys

from .plan import Run, estimate, table_settings
from .results import Results
from .sides import Measured, SideFailed, Sides

# Errors of a failing side: it exits with an error, prints no JSON, or its JSON lacks a key.
_FAILURES = (SideFailed, ValueError, KeyError, OSError)
_COLUMNS = (
    "run",
    "side",
    "blocks",
    "epochs",
    "trained on",
    "repetition",
    "training, s",
    "whole process, s",
    "peak memory, MB",
    "test accuracy",
    "minutes left",
)


def measure(runs: list[Run], results: Results, sides: Sides, *, try_first: bool) -> int:
    """Measures runs and stores each result immediately.

    Args:
        runs: The runs in order; known results are skipped.
        results: Stores the results.
        sides: Runs the sides.
        try_first: Whether to try each side once on a few rows first.

    Returns:
        The number of failed runs.
    """
    runs = [run for run in runs if run not in results.runs]
    if not runs:
        _say("All of it is already measured; --fresh measures it again.")
        return 0
    minutes = sum(map(estimate, runs)) / 60
    _say(f"{len(runs)} runs, about {minutes:.0f} minute{'s' if round(minutes) != 1 else ''}.")
    if (load := os.getloadavg()[0]) > 0.5:
        _say(f"Something else is running here (load {load:.1f}): the times will be too long.")
    failing = _try_out(runs, sides) if try_first else set()
    failed = sum(run.side in failing for run in runs)
    runs = [run for run in runs if run.side not in failing]
    print(f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|", flush=True)
    left, spent, expected = sum(map(estimate, runs)), 0.0, 0.0
    for number, run in enumerate(runs, start=1):
        left -= estimate(run)
        try:
            measured = sides.run(run)
        except _FAILURES as error:
            failed += 1
            _say(f"{run.describe().replace(' | ', ', ')} failed: {error}")
            continue
        results.add(run, measured)
        spent, expected = spent + measured.whole_seconds, expected + estimate(run)
        # Not negative, despite rounding errors of the subtraction.
        minutes = max(0.0, left) * spent / expected / 60
        cells = f"{number} of {len(runs)} | {run.describe()} | {_cells(measured)} | {minutes:.0f}"
        print(f"| {cells} |", flush=True)
    return failed


def _try_out(runs: list[Run], sides: Sides) -> set[str]:
    """Runs each side once on a few rows without storing the result; returns the sides that fail.

    This finds a failing side before hours of measurements, and no measured run is the first to read its files
    from disk.
    """
    failing = set()
    for side in dict.fromkeys(run.side for run in runs):
        (setting,) = table_settings("A", data=runs[0].setting.data, rows=64, test_rows=32, epochs=[1])
        _say(f"Trying {side} …")
        try:
            sides.run(Run(setting, side, 0))
        except _FAILURES as error:
            failing.add(side)
            _say(f"{side} cannot run and is left out: {error}")
    return failing


def _cells(measured: Measured) -> str:
    return (
        f"{measured.train_seconds:.1f} | {measured.whole_seconds:.1f} | {measured.peak_mb:,.0f} | "
        f"{measured.accuracy:.3f}"
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
