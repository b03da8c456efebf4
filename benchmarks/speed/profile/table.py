"""Formats a profile in 80 columns."""

from __future__ import annotations

from typing import Any

from . import patches
from .recorder import IMPORTS

WIDTH = 80
# Imports below this many seconds share a line.
_SMALL = 0.05
_HEAD = f"{'phase':<36}{'s':>7}{'core s':>8}{'share':>7}{'floor':>7}{'MB':>8}{'peak':>7}\n{'-' * WIDTH}"
_OTHERS = "other packages"
# Trained values are read with their gradient and both moments, and written with the moments.
_ACCESSES = 7


def lines(job: dict[str, Any], traced: dict[str, Any], speed: dict[str, float], exited: float) -> list[str]:
    """Returns the lines of the profile.

    Args:
        job: Report of the job, from `job.py`.
        traced: Report of a job of one epoch whose steps were traced.
        speed: Operations and bytes per second of this processor, from `floors.py`.
        exited: When the process ended, in seconds since 1970.
    """
    seconds, cores = job["seconds"], job["cores"]
    rows = [("starting Python", job["starting"], None, "", None)]
    rows += [(name, value, worked, "", None) for name, value, worked in _imports(seconds, cores)]
    floors = _floors(job, traced, speed)
    for name, value in seconds.items():
        if not name.startswith(IMPORTS):
            rows.append((name, value, cores[name], floors.get(name, ""), job["memory"].get(name)))
    rows.append((patches.EXIT, exited - job["until"], None, "", None))
    whole = sum(row[1] for row in rows)
    made = [_HEAD, *(_row(*row, whole) for row in rows), "-" * WIDTH]
    peak = max(high for _, high in job["memory"].values())
    made.append(_row("whole process", whole, sum(cores.values()), "", (0, peak), whole))
    if job["first_step"] is not None:
        made.append(f"The first training step ended {job['first_step']:.1f} s after the command.")
    made.append("core s: seconds that the cores worked; floor: the least that its products need.")
    return [*made, "", *_operations(job, traced, speed)]


def _imports(seconds: dict[str, float], cores: dict[str, float]) -> list[tuple[str, float, float]]:
    imports = [(name, value, cores[name]) for name, value in seconds.items() if name.startswith(IMPORTS)]
    large = sorted((one for one in imports if one[1] >= _SMALL), key=lambda one: -one[1])
    small = [one for one in imports if one[1] < _SMALL]
    return [*large, (IMPORTS + _OTHERS, sum(one[1] for one in small), sum(one[2] for one in small))]


def _floors(job: dict[str, Any], traced: dict[str, Any], speed: dict[str, float]) -> dict[str, str]:
    """Returns the least seconds of the phases that consist of matrix products."""
    operations = traced.get("operations")
    if not operations:
        return {}
    found = operations["products"]
    step, trunk = (_least(found[part], speed) for part in ("step", "trunk"))
    batches = traced["steps"] * (1 + job["scored_share"])
    return {patches.STEPS: f"{(job['steps'] - 1) * step:.1f}", patches.TRUNK: f"{batches * trunk:.1f}"}


def _least(products: dict[str, float], speed: dict[str, float]) -> float:
    return sum(count / speed.get(dtype, speed["float32"]) for dtype, count in products.items())


def _operations(job: dict[str, Any], traced: dict[str, Any], speed: dict[str, float]) -> list[str]:
    """Returns the lines on the parts of a training step."""
    operations = traced.get("operations")
    if not operations or job["steps"] < 2:
        return []
    found, count = operations["products"], operations["steps"]
    step = job["seconds"][patches.STEPS] / (job["steps"] - 1) * 1000
    by_kind = {name: value / count * 1000 for name, value in operations["by_kind"].items()}
    floors = {
        "matrix products": _least(found["step"], speed) * 1000,
        "optimizer": _ACCESSES * 4 * job["trained"] / speed["bytes"] * 1000,
    }
    made = [
        f"A step of {found['rows']} texts of {found['tokens']:.0f} tokens takes {step:.1f} ms, "
        f"with {sum(found['step'].values()) / 1e9:.2f} billion",
        "operations in matrix products.",
        f"{'kind of operation':<44}{'ms':>8}{'share':>8}{'floor, ms':>12}",
    ]
    rest = operations["seconds"] / count * 1000 - sum(by_kind.values())
    for name, value in [*by_kind.items(), ("Python, and waiting between operations", max(0.0, rest))]:
        floor = f"{floors[name]:.1f}" if name in floors else ""
        made.append(
            f"{name:<44}{value:>8.1f}{value / sum([*by_kind.values(), max(0.0, rest)]):>8.0%}{floor:>12}"
        )
    fed = job["feeding"] / max(1, job["steps"]) * 1000
    return [
        *made,
        f"In another thread at the same time: {fed:.1f} ms to make a batch.",
        f"The kinds are from {count} traced steps of {operations['seconds'] / count * 1000:.1f} ms. "
        "Operations that",
        "run at the same time on several cores count more than once.",
        f"Floors: {speed['float32'] / 1e9:.0f} billion operations per second in float32, "
        f"{speed['bfloat16'] / 1e9:.0f} in bfloat16,",
        f"{speed['bytes'] / 1e9:.1f} GB/s, measured on large arrays in a process of its own.",
    ]


def _row(name: str, value: float, worked: float | None, floor: str, memory: Any, whole: float) -> str:
    after, high = (f"{one:,}" if one else "" for one in memory or (0, 0))
    cores = "" if worked is None else f"{worked:.2f}"
    share = f"{value / whole:.0%}"
    return f"{name[:36]:<36}{value:>7.2f}{cores:>8}{share:>7}{floor:>7}{after:>8}{high:>7}"
