"""Plots of the scores of each data set against the training time and the trainable parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from keras_peft.comparing.labels_of_points import Box, place_labels

_INK, _METHOD, _YARDSTICK, _GRID = "#222222", "#0b62b8", "#8c8c8c", "#e3e3e3"
_AXES = (("seconds", "training, seconds"), ("parameters", "trainable parameters"))
_DPI = 130
# Inches of a row of plots, and points of labels and markers.
_WIDTH, _HEIGHT, _FONT, _MARKER = 11.0, 4.4, 7.5, 4.5
# Scores further below the best than so many times the distance of the lower quartile are drawn at the lower edge.
_FAR = 2.0
# Durations are stored in tenths of a second.
_SHORTEST = 0.05


def means_of(one: Mapping[str, Any], figure: str) -> dict[str, float]:
    """Returns the mean of a figure over the seeds, by candidate; those without the figure are left out.

    Args:
        one: The results of a data set.
        figure: Name of the figure, such as "score".
    """
    by_candidate: dict[str, list[float]] = {}
    for training in one["trainings"]:
        if training[figure] is not None:
            by_candidate.setdefault(training["candidate"], []).append(training[figure])
    return {name: fmean(values) for name, values in by_candidate.items()}


def save_plots(sets: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draws a row of plots for each data set.

    Args:
        sets: The results, by data set.
        path: The image to write.
    """
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"font.size": 9, "text.color": _INK, "axes.labelcolor": _INK})
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT * len(sets)), layout="constrained", dpi=_DPI)
    drawn = []
    for row, (name, one) in zip(figure.subplots(len(sets), 2, squeeze=False), sets.items(), strict=True):
        for place, (key, label) in zip(row, _AXES, strict=True):
            drawn.append((place, _draw_points(place, one, key)))
            place.set_title(name.replace("_", " ") if key == "seconds" else "", fontsize=10, loc="left")
            place.set_xlabel(label)
            place.set_ylabel(one["metric"].replace("_", " "))
    # The labels need the final places of the points.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for place, points in drawn:
        _draw_labels(place, points)
    figure.savefig(path, dpi=_DPI, facecolor="white")


def _draw_points(place: Any, one: Mapping[str, Any], figure: str) -> dict[str, tuple[float, float]]:
    """Plots a point for each candidate, and the line of those that no other one beats in both; returns the points."""
    scores, costs = means_of(one, "score"), means_of(one, figure)
    kinds = {training["candidate"]: training["kind"] for training in one["trainings"]}
    true = {key: (max(costs[key], _SHORTEST), scores[key]) for key in scores if key in costs}
    least = _least([score for _, score in true.values()])
    points = {key: (cost, max(score, least)) for key, (cost, score) in true.items()}
    for key, (cost, score) in points.items():
        is_method = kinds[key] == "method"
        marker = "v" if true[key][1] < least else "o" if is_method else "s"
        place.plot(
            cost,
            score,
            marker,
            color=_METHOD if is_method else _YARDSTICK,
            markersize=_MARKER,
            zorder=3,
        )
    place.plot(
        *zip(*front(list(points.values())), strict=True),
        color=_METHOD,
        linewidth=0.8,
        alpha=0.6,
        drawstyle="steps-post",
        gid="front",
    )
    place.set_xscale("log")
    place.margins(x=0.12, y=0.1)
    place.grid(color=_GRID, linewidth=0.8)
    place.set_axisbelow(True)
    place.spines[["top", "right"]].set_visible(False)
    return points


def _least(scores: Sequence[float]) -> float:
    """Returns the score at the lower edge."""
    ordered = sorted(scores)
    return max(ordered[0], ordered[-1] - _FAR * (ordered[-1] - ordered[len(ordered) // 4]))


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the points for which no cheaper point is as good, from the cheapest on.

    Args:
        points: Cost and score of each point.
    """
    found: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda one: (one[0], -one[1])):
        if not found or point[1] > found[-1][1]:
            found.append(point)
    return found


def _draw_labels(place: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Writes the name of each point near it, free of the others, with a line where it is far away."""
    to_pixels, scale = place.transData, _DPI / 72
    height = place.figure.bbox.height

    def turned(at: Any) -> np.ndarray:
        """Pixels from the upper edge, or back."""
        return np.asarray(at) * [1, -1] + [0, height]

    pixels = turned(to_pixels.transform(list(points.values())))
    texts = [place.text(0, 0, name, fontsize=_FONT, va="center", zorder=4) for name in points]
    widths = [text.get_window_extent().width for text in texts]
    box = place.get_window_extent()
    area = Box(box.x0, height - box.y1, box.x1, height - box.y0)
    steps = next(line for line in place.lines if line.get_gid() == "front")
    corners = turned(to_pixels.transform(_corners(np.stack(steps.get_data(), axis=1))))
    lines = [(*start, *end) for start, end in pairwise(corners)]
    labels = place_labels(
        [tuple(one) for one in pixels],
        widths,
        area,
        _FONT * scale,
        radii=[_MARKER / 2 * scale] * len(points),
        lines=lines,
    )
    back = to_pixels.inverted()
    for text, label in zip(texts, labels, strict=True):
        middle = (label.box.top + label.box.bottom) / 2
        text.set_position(back.transform(turned([label.x, middle])))
        text.set_horizontalalignment({"start": "left", "middle": "center", "end": "right"}[label.anchor])
        if label.leader is not None:
            ends = back.transform(turned(np.reshape(label.leader, (2, 2))))
            place.plot(*ends.T, color=_INK, linewidth=0.5, alpha=0.5, zorder=2)


def _corners(points: np.ndarray) -> np.ndarray:
    """Returns the corners of a line that goes right, then up, from point to point."""
    return np.array(
        [corner for one, after in pairwise(points) for corner in (one, (after[0], one[1]))] + [points[-1]]
    )
