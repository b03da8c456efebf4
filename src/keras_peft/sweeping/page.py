"""Renders the page of a sweep: the history of its trials, and what each parameter did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_peft.sweeping.axes import axis_of, varied
from keras_peft.sweeping.charts import BOTTOM, HEIGHT, LEFT, RIGHT, by_value, history, kind_of, parallel
from keras_peft.sweeping.result import in_words, ranked, value_in_words
from keras_peft.sweeping.study import BELOW
from keras_peft.tasks import metric_name
from keras_peft.templating import environment


def as_html(report: Mapping[str, Any]) -> str:
    """Renders sweep.json as a self-contained page, with a light and a dark theme.

    Args:
        report: Content of sweep.json.

    Returns:
        The page, without scripts.
    """
    trials, name = report["trials"], metric_name(report["metric"])
    axes = [axis_of(label, line, trials) for label, line in varied(report["space"])]
    importance = report["importance"]
    axes = sorted((axis for axis in axes if axis.places), key=lambda axis: -importance.get(axis.key, 0))
    scored = ranked(trials)
    test = report["test"]
    return (
        environment()
        .get_template("sweep.html")
        .render(
            report=report,
            metric=name,
            stopped=sum(one["score"] is None for one in trials),
            duration=duration(sum(one["seconds"] or 0 for one in trials)),
            history=history(trials, report),
            importance=_importance(report["importance"]),
            parallel=parallel(
                [
                    one
                    for one in axes
                    if one.key.rpartition(".")[0] in ("", report["best"]["settings"]["method"])
                ],
                trials,
                report,
                name,
            ),
            slices=[by_value(axis, trials, report) for axis in axes],
            rows=[_row(one, report) for one in [*scored, *(t for t in trials if t["score"] is None)]],
            best_in_words=[
                (key.replace("_", " "), value_in_words(value))
                for key, value in report["best"]["settings"].items()
            ],
            test=None if test is None else _test(test),
            height=HEIGHT,
            left=LEFT,
            bottom=BOTTOM,
            right=RIGHT,
        )
    )


def duration(seconds: float) -> str:
    """Formats a duration.

    Args:
        seconds: The duration.

    Example:
        >>> duration(4000)
        '1 h 7 min'
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _importance(found: Mapping[str, float]) -> list[tuple[str, float]]:
    """Returns the names and percentages, the most important first."""
    return [(label.replace("_", " ").replace(".", ": "), 100 * share) for label, share in found.items()]


def _row(trial: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a line of the table of trials."""
    settings = dict(trial["settings"])
    if not report["space"].get("method"):
        settings.pop("method", None)
    return {
        "trial": trial["trial"],
        "css": kind_of(trial, report),
        "score": "stopped" if trial["score"] is None else f"{trial['score']:.3f}",
        "settings": "the defaults" if trial["defaults"] else in_words(settings),
        "reason": None if trial["rungs"] and trial["reason"] == BELOW else trial["reason"],
        "seconds": "" if trial["seconds"] is None else f"{trial['seconds']:.0f}",
        "parameters": "" if trial["trainable_parameters"] is None else f"{trial['trainable_parameters']:,}",
    }


def _test(test: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scores on the test rows."""
    best, defaults = (next(iter(test[key]["metrics"].values())) for key in ("best", "defaults"))
    return {**test, "best": best, "defaults": defaults}
