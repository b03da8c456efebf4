"""Plots of the quality of candidates against what they cost, in the coordinates of a drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from keras_peft.bundle.report import ticks
from keras_peft.comparing.labels_of_points import Box, Label, place_labels, text_width
from keras_peft.comparing.units import duration, short_count

if TYPE_CHECKING:
    from keras_peft.comparing.verdict import Standing, Verdict

_LEFT, _RIGHT, _TOP, _BOTTOM, _FONT = 46.0, 14.0, 12.0, 44.0, 12.0
_MOST_LETTERS = 28
_DOT, _RING = 6.0, 9.0
_BOLD = 1.15
# Points further below the best than so many times the distance of the lower quartile are drawn at the lower edge.
_FAR, _LEAST_SPAN = 1.8, 0.05
# The horizontal axis spans at least this factor, so that it has grid lines.
_LEAST_FACTOR = 12
_SECONDS = (0.01, 0.1, 1, 10, 60, 600, 3_600, 36_000, 360_000)
_BETWEEN = (0.03, 0.3, 3, 30, 180, 1_800, 10_800, 108_000)


@dataclass(frozen=True)
class Dot:
    """A candidate in a plot.

    Attributes:
        x: Position across.
        y: Position down.
        low: Lower end of its interval, down.
        high: Upper end.
        place: Its place; see `Standing`.
        kind: "method" or "yardstick".
        is_recommended: Whether it is the recommended candidate.
        is_below_axis: Whether its quality is too low for the axis.
        name: Text of its label.
        label: Place of its label.
        in_words: Its values as text.
    """

    x: float
    y: float
    low: float
    high: float
    place: str
    kind: str
    is_recommended: bool
    is_below_axis: bool
    name: str
    label: Label
    in_words: str


@dataclass(frozen=True)
class Plot:
    """Quality against a cost.

    Attributes:
        css: CSS class of the layout.
        width: Width of the drawing.
        height: Height of the drawing.
        left: Left edge of the area with points.
        right: Right edge.
        top: Upper edge.
        bottom: Lower edge.
        dots: The candidates.
        front: Corners of the line of candidates of which none is both better and cheaper.
        rows: y position and label of each horizontal grid line.
        columns: x position and label of each vertical grid line.
    """

    css: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    dots: tuple[Dot, ...]
    front: tuple[tuple[float, float], ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Cost:
    """What is on the horizontal axis.

    Attributes:
        title: Title of the plot.
        axis: Title of the axis.
        value: Returns the cost of a candidate, None if it has none.
        shown: Formats a cost.
        marks: Values of grid lines, from the lowest to the highest cost.
    """

    title: str
    axis: str
    value: Callable[[Standing], float | None]
    shown: Callable[[float], str]
    marks: Callable[[float, float], Sequence[float]]


def _tens(low: float, high: float) -> list[float]:
    """Returns powers of ten that enclose costs, and threes between them if those are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    tens = [10.0**power for power in range(first, last + 1)]
    return sorted(tens + [3 * ten for ten in tens]) if last - first <= 3 else tens


def _times(low: float, high: float) -> list[float]:
    return sorted(_SECONDS + _BETWEEN) if high / low < 3_000 else list(_SECONDS)


TIME = Cost(
    "training time",
    "duration of one training, logarithmic",
    lambda one: max(one.train_seconds, 0.01),
    duration,
    _times,
)
PARAMETERS = Cost(
    "trainable parameters",
    "number of trainable parameters, logarithmic",
    lambda one: None if one.trainable_parameters is None else max(one.trainable_parameters, 1),
    lambda value: short_count(round(value)),
    _tens,
)


def plot(verdict: Verdict, cost: Cost, css: str, width: float, height: float) -> Plot | None:
    """Draws the quality of candidates against a cost.

    Args:
        verdict: The verdict.
        cost: The cost.
        css: CSS class of the layout.
        width: Width of the drawing.
        height: Height of the drawing.

    Returns:
        The plot, or None if no candidate has the cost.
    """
    costs = [(one, value) for one in verdict.standings if (value := cost.value(one)) is not None]
    if not costs:
        return None
    area = Box(_LEFT, _TOP, width - _RIGHT, height - _BOTTOM)
    across, columns = _across([value for _, value in costs], cost, area)
    down, floor, rows = _down([one for one, _ in costs], area)
    points = [
        (across(value), area.bottom - 6 if one.quality.value < floor else down(one.quality.value))
        for one, value in costs
    ]
    names = [_name(one, one.quality.value < floor) for one, _ in costs]
    shown = [point for (one, _), point in zip(costs, points, strict=True) if one.quality.value >= floor]
    front = _front(shown, area)
    labels = place_labels(
        points,
        [
            text_width(name, _FONT) * (_BOLD if one is verdict.recommended else 1)
            for name, (one, _) in zip(names, costs, strict=True)
        ],
        Box(area.left + 2, area.top, width - 2, area.bottom - 2),
        _FONT,
        radii=[_RING if one is verdict.recommended else _DOT for one, _ in costs],
        lines=[(*start, *end) for start, end in pairwise(front)],
    )
    dots = tuple(
        Dot(
            x=round(x, 1),
            y=round(y, 1),
            low=round(down(max(one.quality.low, floor)), 1),
            high=round(down(max(one.quality.high, floor)), 1),
            place=one.place,
            kind=one.candidate.kind,
            is_recommended=one is verdict.recommended,
            is_below_axis=one.quality.value < floor,
            name=name,
            label=label,
            in_words=_in_words(one, cost.shown(value)),
        )
        for (one, value), (x, y), name, label in zip(costs, points, names, labels, strict=True)
    )
    shown = [(dot.x, dot.y) for dot in dots if not dot.is_below_axis]
    return Plot(
        css,
        width,
        height,
        area.left,
        area.right,
        area.top,
        area.bottom,
        dots,
        _front(shown, area),
        rows,
        columns,
    )


def _across(
    costs: Sequence[float], cost: Cost, area: Box
) -> tuple[Callable[[float], float], tuple[tuple[float, str], ...]]:
    """Returns the function from a cost to its position, and the grid lines."""
    low, high = min(costs), max(costs)
    margin = max((high / low) ** 0.06, 1.15, math.sqrt(_LEAST_FACTOR * low / high))
    low, high = low / margin, high * margin
    span = math.log(high / low)

    def across(value: float) -> float:
        return area.left + (area.right - area.left) * math.log(value / low) / span

    columns: list[tuple[float, str]] = []
    for mark in cost.marks(low, high):
        if low <= mark <= high:
            x, text = across(mark), cost.shown(mark).replace(".0 ", " ")
            room = text_width(text, _FONT) + 6
            if not columns or x - columns[-1][0] >= room:
                columns.append((round(x, 1), text))
    return across, tuple(columns)


def _down(
    standings: Sequence[Standing], area: Box
) -> tuple[Callable[[float], float], float, tuple[tuple[float, str], ...]]:
    """Returns the function from a quality to its position, the lowest quality on the axis, and the grid lines."""
    values = sorted(one.quality.value for one in standings)
    core = max(values[-1] - values[len(values) // 4], _LEAST_SPAN)
    least = values[-1] - _FAR * core
    low = min(max(one.quality.low, least) for one in standings if one.quality.value >= least)
    grid = ticks(low, max(one.quality.high for one in standings))
    floor, ceiling = grid[0], grid[-1]

    def down(value: float) -> float:
        return area.top + (area.bottom - area.top) * (ceiling - value) / (ceiling - floor)

    return down, floor, tuple((round(down(value), 1), f"{value:.2f}") for value in grid)


def _front(points: Sequence[tuple[float, float]], area: Box) -> tuple[tuple[float, float], ...]:
    """Returns the steps along the points of which none is both cheaper and better."""
    corners: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not corners:
            corners.append((x, y))
        elif y < corners[-1][1]:
            corners += [(x, corners[-1][1]), (x, y)]
    corners += [(area.right, corners[-1][1])] if corners else []
    return tuple((round(x, 1), round(y, 1)) for x, y in corners)


def _name(one: Standing, is_below_axis: bool) -> str:
    """Returns the name that the command line knows a method by, or the title of a yardstick."""
    candidate = one.candidate
    name = candidate.name if one.is_method else candidate.title
    name = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
    return f"{name} {one.quality.value:.2f}" if is_below_axis else name


def _in_words(one: Standing, cost: str) -> str:
    low, high = one.quality.low, one.quality.high
    return f"{one.candidate.title}: {one.quality.value:.3f} ({low:.3f}–{high:.3f}), {cost}"
