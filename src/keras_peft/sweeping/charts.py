"""The charts of a sweep, as positions in a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_peft.bundle.report import ticks
from keras_peft.sweeping.axes import Axis
from keras_peft.sweeping.result import in_words

# The sizes of charts, in the units of their own coordinates.
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 310, 200, 40, 30, 10, 8
_WIDE = 860
# Distance between two axes: as much as fits, within limits.
_NEAREST, _FARTHEST, _MARGIN = 84, 150, 130
# A label under a chart is cut to this many characters, and to a third of them if there are more than three.
_LABEL, _FEW = 11, 3
_MOST_TRIALS = 200


@dataclass(frozen=True)
class Dot:
    """A trial in a chart.

    Attributes:
        x: Horizontal position.
        y: Vertical position.
        css: "best", "defaults", "stopped" or "trial".
        title: What a pointer shows.
    """

    x: float
    y: float
    css: str
    title: str


@dataclass(frozen=True)
class Chart:
    """Trials by a value.

    Attributes:
        title: Title of the chart.
        width: Width.
        dots: The trials.
        below: Position and label of each mark of the horizontal axis.
        across: Position and label of each grid line.
        line: Points of a line through the chart.
        defaults: Vertical position of the score of the defaults, None if it is unknown.
    """

    title: str
    width: int
    dots: tuple[Dot, ...]
    below: tuple[tuple[float, str], ...]
    across: tuple[tuple[float, str], ...]
    line: tuple[tuple[float, float], ...] = ()
    defaults: float | None = None


def history(trials: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> Chart:
    """Returns the scores in the order of the trials, and the best so far.

    Args:
        trials: Entries of sweep.json.
        report: Content of sweep.json.
    """
    y, across = _heights(trials)
    span = max(len(trials) - 1, 1)

    def x(place: float) -> float:
        return round(LEFT + 8 + (_WIDE - LEFT - RIGHT - 16) * place / span, 1)

    line: list[tuple[float, float]] = []
    best: float | None = None
    for place, one in enumerate(trials):
        if one["score"] is not None and (best is None or one["score"] > best):
            if best is not None:
                line.append((x(place), y(best)))
            best = one["score"]
            line.append((x(place), y(best)))
    if best is not None:
        line.append((x(span), y(best)))
    step = max(1, math.ceil(len(trials) / 12))
    return Chart(
        "Scores of the trials",
        _WIDE,
        _order(
            Dot(x(place), y(score), kind_of(one, report), _title(one))
            for place, one in enumerate(trials)
            if (score := score_of(one)) is not None
        ),
        tuple((x(place), str(trials[place]["trial"])) for place in range(0, len(trials), step)),
        across,
        tuple(line),
        _of_defaults(report, y),
    )


def by_value(axis: Axis, trials: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> Chart:
    """Returns the scores by the value of a parameter.

    Args:
        axis: The parameter.
        trials: Entries of sweep.json.
        report: Content of sweep.json.
    """
    y, across = _heights(trials)
    places = {place for place, _ in axis.marks}

    def x(place: float, trial: int = 0) -> float:
        # Trials with the same value are drawn next to each other.
        spread = (trial * 0.618 % 1 - 0.5) * min(0.5 / len(places), 0.08) if place in places else 0.0
        return round(LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * (place + spread), 1)

    return Chart(
        axis.name,
        WIDTH,
        _order(
            Dot(x(axis.places[one["trial"]], one["trial"]), y(score), kind_of(one, report), _title(one))
            for one in trials
            if one["trial"] in axis.places and (score := score_of(one)) is not None
        ),
        tuple((x(place), _short(label, len(axis.marks))) for place, label in axis.marks),
        across,
        (),
        _of_defaults(report, y),
    )


def parallel(
    axes: Sequence[Axis], trials: Sequence[Mapping[str, Any]], report: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Returns the axes of parallel coordinates, and a line for each trial through its values.

    Args:
        axes: The parameters.
        trials: Entries of sweep.json.
        report: Content of sweep.json.
        name: Name of the score.
    """
    drawn = [one for one in trials if score_of(one) is not None][-_MOST_TRIALS:]
    y, across = _heights(trials)
    heights = {one["trial"]: y(score) for one in drawn if (score := score_of(one)) is not None}
    bottom, top = HEIGHT - BOTTOM, TOP

    def at(place: float) -> float:
        return round(bottom - (bottom - top) * (0.04 + 0.92 * place), 1)

    step = max(_NEAREST, min(_FARTHEST, (_WIDE - _MARGIN) // max(len(axes), 1)))
    width = step * len(axes) + _MARGIN
    columns = [
        (
            70 + step * number,
            axis.name,
            tuple((at(place), _short(label, _FEW)) for place, label in axis.marks),
        )
        for number, axis in enumerate(axes)
    ]
    columns.append((70 + step * len(axes), name, across))
    lines = []
    highest = min(heights.values(), default=top)
    lowest = max(heights.values(), default=bottom)
    for one in drawn:
        points = [
            (70 + step * number, at(axis.places[one["trial"]]))
            for number, axis in enumerate(axes)
            if one["trial"] in axis.places
        ]
        end = heights[one["trial"]]
        share = (lowest - end) / max(lowest - highest, 1)
        lines.append(
            (
                kind_of(one, report),
                round(0.12 + 0.6 * share**2, 2),
                [*points, (70 + step * len(axes), end)],
                _title(one),
            )
        )
    order = ("stopped", "trial", "defaults", "best")
    lines.sort(key=lambda line: (order.index(line[0]), line[1]))
    return {"width": width, "columns": columns, "lines": lines}


def score_of(trial: Mapping[str, Any]) -> float | None:
    """Returns the score of a trial, or the last one before it was stopped.

    Args:
        trial: An entry of sweep.json.
    """
    if trial["score"] is not None:
        return float(trial["score"])
    rungs = trial["rungs"]
    return float(rungs[max(rungs, key=int)]) if rungs else None


def kind_of(trial: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Returns how a trial is drawn: "best", "defaults", "stopped" or "trial".

    Args:
        trial: An entry of sweep.json.
        report: Content of sweep.json.
    """
    if trial["trial"] == report["best"]["trial"]:
        return "best"
    if trial["defaults"]:
        return "defaults"
    return "trial" if trial["score"] is not None else "stopped"


def _title(trial: Mapping[str, Any]) -> str:
    score = score_of(trial)
    reached = "no score" if score is None else f"{score:.3f}"
    ended = "" if trial["score"] is not None else ", stopped"
    return f"Trial {trial['trial']}: {reached}{ended}. {in_words(trial['settings'])}"


def _heights(trials: Iterable[Mapping[str, Any]]) -> tuple[Any, tuple[tuple[float, str], ...]]:
    """Returns the vertical position of a score, and the grid lines."""
    # Some trials fail completely or are stopped. They are at the edge, so that the others can be told apart.
    ordered = sorted(one["score"] for one in trials if one["score"] is not None)
    lowest = ordered[len(ordered) // 10]
    levels = ticks(lowest, ordered[-1])
    low, high = levels[0], levels[-1]

    def y(score: float) -> float:
        share = (max(score, low) - low) / (high - low)
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share, 1)

    return y, tuple((y(level), f"{level:.2f}") for level in levels)


def _order(dots: Iterable[Dot]) -> tuple[Dot, ...]:
    """Returns the dots in the order in which they are drawn: the best one last."""
    order = ("stopped", "trial", "defaults", "best")
    return tuple(sorted(dots, key=lambda dot: order.index(dot.css)))


def _of_defaults(report: Mapping[str, Any], y: Any) -> float | None:
    defaults = report["defaults"]
    return None if defaults is None or defaults["score"] is None else float(y(defaults["score"]))


def _short(label: str, labels: int) -> str:
    """Cuts a label so that it does not cover its neighbours."""
    most = _LABEL if labels <= _FEW else max(4, _LABEL * _FEW // labels)
    return label if len(label) <= most else f"{label[: most - 1]}…"
