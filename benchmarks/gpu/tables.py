"""Formats the runs in 80 columns."""

from __future__ import annotations

from typing import Any

from .plan import HF_PEFT, Run

# Losses on two devices differ by the order of additions; this is far above it and far below an error.
TOLERANCE = 1e-3


def lines(found: dict[Run, dict[str, Any]], rows: int) -> list[str]:
    """Returns a line for each run: the seconds of the training, and the rows per second of the last epoch.

    Args:
        found: The results of the runs.
        rows: Number of training rows.
    """
    made = [_line("base", "blocks", "batch", "side", "training, s", "rows/s"), "-" * 80]
    for run, result in found.items():
        speed = f"{rows / result['epoch_seconds'][-1]:,.0f}"
        made.append(_line(run.base, run.blocks, run.batch_size, run.side, f"{training(result):.2f}", speed))
    return made


def quotients(found: dict[Run, dict[str, Any]]) -> list[str]:
    """Returns a line for each run of this package: the seconds of HF PEFT divided by its own."""
    made = [_line("HF PEFT ÷ the side:", "", "", "", "training", "an epoch"), "-" * 80]
    for run, result in found.items():
        peer = Run(side=HF_PEFT, base=run.base, blocks=run.blocks, batch_size=run.batch_size)
        if run != peer and peer in found:
            other = found[peer]
            last = other["epoch_seconds"][-1] / result["epoch_seconds"][-1]
            whole = training(other) / training(result)
            made.append(_line(run.base, run.blocks, run.batch_size, run.side, f"{whole:.2f}", f"{last:.2f}"))
    return made


def _line(*cells: Any) -> str:
    base, blocks, size, side, first, second = cells
    return f"{base:<21}{blocks:<7}{size:>5}  {side:<22}{first:>12}{second:>10}"


def training(result: dict[str, Any]) -> float:
    """Returns the seconds of all epochs, with compilation and the frozen blocks."""
    return float(result["trunk_seconds"] + sum(result["epoch_seconds"]))


def difference(one: list[float], other: list[float]) -> float:
    """Returns the largest relative difference between the losses of two runs."""
    return max(abs(own - theirs) / max(abs(own), 1e-6) for own, theirs in zip(one, other, strict=True))


def verdict(one: list[float], other: list[float], devices: tuple[str, str]) -> str:
    """Says whether the losses on two devices are equal."""
    apart = difference(one, other)
    equal = "are equal" if apart <= TOLERANCE else "DIFFER"
    return (
        f"The losses of the epochs on {devices[0]} and {devices[1]} {equal}: they are at most {apart:.1e} of their "
        f"value apart ({TOLERANCE:.0e} allowed)."
    )
