"""The table of a comparison in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from keras_peft.comparing.units import duration, short_count, size
from keras_peft.printable import printable
from keras_peft.tasks import metric_name

if TYPE_CHECKING:
    from keras_peft.comparing.verdict import Standing, Verdict

WIDTH = 80
"""Columns of a terminal that the table fits in."""
_LETTERS = 18


def comparison_table(verdict: Verdict) -> Table:
    """Creates a table of a verdict that fits in 80 columns, the best candidate first.

    Args:
        verdict: The verdict.
    """
    metric = Text(printable(metric_name(verdict.study.metric)))
    made = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", caption_justify="left"
    )
    made.add_column("", overflow="fold", max_width=_LETTERS)
    for name in (metric, "best", "train", "param.", "memory", "size", "ms"):
        made.add_column(name, justify="right", no_wrap=True)
    for one in verdict.standings:
        style = "dim" if one.place == "below" else "bold" if one is verdict.recommended else ""
        made.add_row(*_cells(one, verdict), style=style)
    made.caption = _caption(verdict)
    return made


def _cells(one: Standing, verdict: Verdict) -> tuple[str | Text, ...]:
    """Formats what a candidate reached; the recommended one is marked."""
    low, high = one.quality.low, one.quality.high
    mark = "* " if one is verdict.recommended else ""
    return (
        # Not a string, whose brackets could be markup.
        Text(f"{mark}{printable(one.candidate.name)}"),
        f"{one.quality.value:.3f} {low:.2f}–{high:.2f}",
        {
            "best": "best",
            "same": "same",
            "below": f"{one.against_best.value:+.3f}" if one.against_best else "",
        }[one.place],
        duration(one.train_seconds),
        "" if one.trainable_parameters is None else short_count(one.trainable_parameters),
        "" if one.peak_mb is None else size(one.peak_mb * 10**6),
        "" if one.adapter_bytes is None else size(one.adapter_bytes),
        "" if one.latency_ms is None else f"{one.latency_ms:.1f}",
    )


def _caption(verdict: Verdict) -> str:
    parts = ["* recommended"] if verdict.recommended else []
    if verdict.same:
        parts.append("same: cannot be told apart from the best")
    return "; ".join(parts)
