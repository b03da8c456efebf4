"""Average ranks of methods over several data sets, with a critical difference.

Demšar 2006, https://jmlr.org/papers/v7/demsar06a.html, section 3.2.2: the Friedman test says whether any method is
better than another; if so, two methods differ if their average ranks are further apart than Nemenyi's critical
difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

if TYPE_CHECKING:
    import matplotlib.figure

LEVEL = 0.05
_FEWEST_METHODS, _FEWEST_SETS = 3, 2
# Heights in the diagram, in rows of labels.
_AXIS, _FIRST_LABEL, _BARS = 0.0, 1.1, 0.3


@dataclass(frozen=True)
class Ranks:
    """Average ranks; the best method has the lowest.

    Attributes:
        averages: Average rank of each method, from the best to the worst.
        sets: Number of data sets.
        p: p-value of the Friedman test.
        critical_difference: Difference of average ranks from which two methods differ.
        groups: The longest runs of methods that do not differ from each other; all of them if the Friedman test shows
            no difference.
    """

    averages: dict[str, float]
    sets: int
    p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


def average_ranks(scores: Mapping[str, Mapping[str, float]]) -> Ranks:
    """Computes the average ranks of methods, and which of them differ.

    Args:
        scores: Score of each method by data set, `scores[data][method]`; higher is better. Each data set has the same
            methods.

    Raises:
        ValueError: If there are fewer than three methods or two data sets, or a method is missing in some.

    Example:
        >>> average_ranks({"a": {"x": 0.9, "y": 0.8, "z": 0.7}, "b": {"x": 0.6, "y": 0.5, "z": 0.4}}).averages
        {'x': 1.0, 'y': 2.0, 'z': 3.0}
    """
    names = list(next(iter(scores.values()), {}))
    if odd := [data for data, own in scores.items() if set(own) != set(names)]:
        raise ValueError(f"Expected the same methods in each data set, got others in {', '.join(odd)}.")
    if len(names) < _FEWEST_METHODS or len(scores) < _FEWEST_SETS:
        raise ValueError(
            f"Expected at least {_FEWEST_METHODS} methods and {_FEWEST_SETS} data sets, got {len(names)} and "
            f"{len(scores)}."
        )
    table = np.array([[own[name] for name in names] for own in scores.values()])
    means = rankdata(-table, axis=1).mean(axis=0)
    # Equal scores everywhere have no statistic.
    p = 1.0 if np.ptp(table, axis=1).max() == 0 else float(friedmanchisquare(*table.T).pvalue)
    averages = {names[place]: float(means[place]) for place in np.argsort(means, kind="stable")}
    difference = critical_difference(len(names), len(scores))
    groups = (tuple(averages),) if p >= LEVEL else _groups(averages, difference)
    return Ranks(averages, len(scores), p, difference, groups)


def critical_difference(methods: int, sets: int) -> float:
    """Returns Nemenyi's critical difference of average ranks.

    Args:
        methods: Number of methods.
        sets: Number of data sets.
    """
    quantile = float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * sets))


def _groups(averages: Mapping[str, float], difference: float) -> tuple[tuple[str, ...], ...]:
    """Returns the longest runs of at least two methods within the critical difference."""
    names, found, last = list(averages), [], 0
    for start, first in enumerate(names):
        end = sum(averages[name] < averages[first] + difference for name in names)
        if end > max(last, start + 1):
            found.append(tuple(names[start:end]))
            last = end
    return tuple(found)


def diagram(ranks: Ranks, *, title: str = "") -> matplotlib.figure.Figure:
    """Draws a critical-difference diagram: methods on a line of ranks, with bars over those that do not differ.

    Args:
        ranks: The ranks.
        title: Title of the diagram.
    """
    from matplotlib.figure import Figure

    names = list(ranks.averages)
    left = names[: math.ceil(len(names) / 2)]
    bars = _BARS * len(ranks.groups)
    depth = _FIRST_LABEL + bars + len(left)
    figure = Figure(figsize=(8, 0.9 + 0.26 * depth), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    count = len(names)
    axes.set_xlim(1 - 0.32 * count, count + 0.32 * count)
    axes.set_ylim(-depth, 2.2)
    _draw_axis(axes, count, ranks.critical_difference)
    for number, group in enumerate(ranks.groups):
        low, high = ranks.averages[group[0]], ranks.averages[group[-1]]
        height = -0.35 - _BARS * number
        axes.plot(
            [low - 0.04, high + 0.04], [height, height], color="black", linewidth=3, solid_capstyle="butt"
        )
    for number, name in enumerate(names):
        is_left = number < len(left)
        row = number if is_left else count - 1 - number
        height, end = -_FIRST_LABEL - bars - row, (1 - 0.05 * count if is_left else count * 1.05)
        rank = ranks.averages[name]
        axes.plot([rank, rank, end], [_AXIS, height, height], color="grey", linewidth=0.8)
        axes.text(
            end, height, f" {name} {rank:.1f} ", ha="right" if is_left else "left", va="center", fontsize=9
        )
    if title:
        axes.set_title(title, fontsize=11)
    return figure


def _draw_axis(axes: matplotlib.figure.Axes, count: int, difference: float) -> None:
    """Draws the line of ranks, and the critical difference above it."""
    axes.plot([1, count], [_AXIS, _AXIS], color="black", linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [_AXIS, 0.2], color="black", linewidth=1)
        axes.text(rank, 0.35, str(rank), ha="center", va="bottom", fontsize=8)
    end = min(1 + difference, count * 1.3)
    axes.plot([1, end], [1.5, 1.5], color="black", linewidth=1.5)
    for place in (1, end):
        axes.plot([place, place], [1.35, 1.65], color="black", linewidth=1.5)
    axes.text(
        (1 + end) / 2, 1.7, f"critical difference {difference:.2f}", ha="center", va="bottom", fontsize=8
    )


def save_diagram(ranks: Ranks, file: Path, *, title: str = "") -> None:
    """Writes a critical-difference diagram.

    Args:
        ranks: The ranks.
        file: File to write, such as docs/images/ranks.png.
        title: Title of the diagram.
    """
    diagram(ranks, title=title).savefig(file, dpi=150)
