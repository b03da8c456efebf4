"""Renders a comparison as an HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_peft.comparing.findings import measured_on, sentences
from keras_peft.comparing.plots import PARAMETERS, TIME, plot
from keras_peft.comparing.units import duration, short_count, size
from keras_peft.tasks import metric_name
from keras_peft.templating import environment

if TYPE_CHECKING:
    from keras_peft.comparing.verdict import Standing, Verdict

# CSS class, width and height of a plot: one for screens, one for telephones. The page shows the one that fits.
_LAYOUTS = (("broad", 920, 460), ("slim", 360, 540))


def as_html(verdict: Verdict) -> str:
    """Renders a verdict as a self-contained page, with a light and a dark theme.

    Args:
        verdict: The verdict.

    Returns:
        The page, without external scripts.

    Example:
        >>> Path("index.html").write_text(as_html(judge(study, results)))
    """
    study = verdict.study
    plots = [
        (cost, [plot(verdict, cost, *layout) for layout in _LAYOUTS])
        for cost in (PARAMETERS, TIME)
        if any(cost.value(one) is not None for one in verdict.standings)
    ]
    return (
        environment()
        .get_template("comparison.html")
        .render(
            verdict=verdict,
            study=study,
            metric=metric_name(study.metric),
            measured_on=measured_on(verdict),
            sentences=sentences(verdict),
            plots=plots,
            rows=[_cells(one) for one in verdict.standings],
            duration=duration,
        )
    )


def _cells(one: Standing) -> dict[str, str]:
    """Formats what a candidate reached, empty where there is nothing."""
    quality, apart = one.quality, one.against_best
    return {
        "quality": _with_minus(f"{quality.value:.3f}"),
        "interval": _interval(quality.low, quality.high),
        "apart": "" if apart is None else _signed(apart.value),
        "limits": "" if apart is None else f"{_signed(apart.low)} to {_signed(apart.high)}",
        "p": "" if one.p is None else _p(one.p),
        "parameters": "" if one.trainable_parameters is None else f"{one.trainable_parameters:,}",
        "short_parameters": "" if one.trainable_parameters is None else short_count(one.trainable_parameters),
        "seconds": duration(one.train_seconds),
        "memory": "" if one.peak_mb is None else size(one.peak_mb * 10**6),
        "adapter": "" if one.adapter_bytes is None else size(one.adapter_bytes),
        "latency": "" if one.latency_ms is None else f"{one.latency_ms:.1f} ms",
        "seeds": str(one.seeds),
    }


def _signed(value: float) -> str:
    """Formats a difference with a real minus sign."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else _with_minus(text)


def _interval(low: float, high: float) -> str:
    """Formats the ends of an interval; between a dash and a minus sign, a word."""
    between = " to " if low < 0 else "–"
    return _with_minus(f"{low:.3f}{between}{high:.3f}")


def _with_minus(text: str) -> str:
    return text.replace("-", "−")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
