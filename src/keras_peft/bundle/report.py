"""Renders the report of a training run as an HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_peft.bundle.content import describe_placements
from keras_peft.tasks import metric_name
from keras_peft.templating import environment


@dataclass(frozen=True)
class Curve:
    """A curve of a chart, in the coordinates of the drawing.

    Attributes:
        name: Name of the curve.
        css: CSS class that sets its colour.
        points: x and y for each epoch.
        last: The last value, formatted.
    """

    name: str
    css: str
    points: tuple[tuple[float, float], ...]
    last: str


@dataclass(frozen=True)
class Chart:
    """Curves over the epochs, with the labels of both axes.

    Attributes:
        title: Title of the chart.
        curves: The curves.
        ticks: y position and label of each grid line.
        epochs: x position and number of some of the epochs.
    """

    title: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]
    epochs: tuple[tuple[float, int], ...]


WIDTH, HEIGHT, LEFT, BOTTOM = 420, 220, 44, 26
# A matrix with more labels is too large to read.
MOST_LABELS, MOST_MISTAKES = 40, 30


def as_html(report: Mapping[str, Any]) -> str:
    """Renders report.json as a self-contained page, with a light and a dark theme.

    Args:
        report: Content of report.json.

    Returns:
        The page, without external scripts.
    """
    history = report["history"]
    metrics = report["validation"]["metrics"]
    shown = [(metric_name(key), key, css) for key, css in zip(metrics, ("one", "two"), strict=False)]
    # An imported adapter has no history.
    charts = history and [
        _chart("Loss", history, (("training", "loss", "one"), ("validation", "validation_loss", "two"))),
        _chart("Validation", history, shown),
    ]
    confusion, labels = report["validation"]["confusion"], report["labels"]
    most = max((max(row) for row in confusion), default=0)
    mistakes = sorted(
        (
            (count, labels[true], labels[said])
            for true, row in enumerate(confusion)
            for said, count in enumerate(row)
            if count and true != said
        ),
        key=lambda mistake: -mistake[0],
    )
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            placements=describe_placements(report["parts"]),
            metrics={metric_name(key): value for key, value in metrics.items()},
            charts=charts,
            width=WIDTH,
            height=HEIGHT,
            left=LEFT,
            bottom=BOTTOM,
            most=max(most, 1),
            mistakes=mistakes[:MOST_MISTAKES],
            bars=_bars(report["validation"]["reliability"]),
            baseline=_baseline(report),
            whole_matrix=bool(confusion) and len(labels) <= MOST_LABELS,
        )
    )


def _baseline(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the main metric of the simplest answer; reports of older or imported bundles have none."""
    if not report.get("baseline"):
        return None
    key, value = next(iter(report["baseline"]["metrics"].items()))
    return {"name": metric_name(key), "value": value}


def _chart(
    title: str, history: Sequence[Mapping[str, float]], lines: Sequence[tuple[str, str, str]]
) -> Chart:
    values = [epoch[key] for epoch in history for _, key, _ in lines]
    grid = ticks(min(values), max(values))
    low, high = grid[0], grid[-1]

    def x(epoch: int) -> float:
        span = max(len(history) - 1, 1)
        return round(LEFT + (WIDTH - LEFT - 12) * (epoch - 1) / span, 1)

    def y(value: float) -> float:
        return round(10 + (HEIGHT - BOTTOM - 10) * (high - value) / (high - low), 1)

    step = max(1, len(history) // 8)
    return Chart(
        title=title,
        curves=tuple(
            Curve(
                name,
                css,
                tuple((x(int(epoch["epoch"])), y(epoch[key])) for epoch in history),
                f"{history[-1][key]:.3f}",
            )
            for name, key, css in lines
        ),
        ticks=tuple((y(value), f"{value:.2f}") for value in grid),
        epochs=tuple((x(epoch), epoch) for epoch in range(1, len(history) + 1, step)),
    )


@dataclass(frozen=True)
class Bar:
    """One range of probabilities in the reliability diagram.

    Attributes:
        x: Left edge, in percent.
        width: Width of the range, in percent.
        right: Accuracy of the answers in the range, in percent.
        rows: Percentage of all answers that are in the range.
        in_words: The same as text.
    """

    x: float
    width: float
    right: float
    rows: float
    in_words: str


def _bars(bins: Sequence[Mapping[str, Any]]) -> list[Bar]:
    whole = sum(one["rows"] for one in bins)
    return [
        Bar(
            x=100 * one["low"],
            width=100 * (one["high"] - one["low"]),
            right=100 * one["accuracy"],
            rows=100 * one["rows"] / whole,
            in_words=(
                f"{one['low']:.1f} to {one['high']:.1f}: {one['rows']} predictions, confidence "
                f"{one['confidence']:.2f}, accuracy {one['accuracy']:.2f}"
            ),
        )
        for one in bins
    ]


def ticks(low: float, high: float) -> list[float]:
    """Places about five grid lines at round numbers that enclose the values.

    Args:
        low: The lowest value.
        high: The highest value.
    """
    span = max(high - low, 0.05)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / 4)
    first = math.floor(low / step)
    return [round(step * n, 10) for n in range(first, max(math.ceil(high / step - 1e-9), first + 1) + 1)]
