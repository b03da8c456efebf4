"""Plots time and memory against the number of epochs, the number of rows and the length of the texts."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .plan import HF_PEFT, KERAS_LORA, OURS, Setting
from .results import Results
from .sides import Measured

# Distinguishable for colour-blind readers, who also have the labels at the ends of the lines.
_COLOURS = {OURS: "#0b62b8", HF_PEFT: "#c65102", KERAS_LORA: "#6b6b6b"}
_LABELS = {OURS: "keras-peft", HF_PEFT: "HF PEFT\non PyTorch", KERAS_LORA: "Keras\nenable_lora"}
_INK = "#222222"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: Title of the panel.
        across: Label of the horizontal axis.
        up: Label of the vertical axis, with its unit.
        place: Position of a setting on the horizontal axis.
        measure: The value of a run.
        settings: The settings to plot.
        sides: The sides to plot.
    """

    title: str
    across: str
    up: str
    place: Callable[[Setting], int]
    measure: Callable[[Measured], float]
    settings: list[Setting]
    sides: tuple[str, ...]


def draw(results: Results, folder: Path) -> list[Path]:
    """Plots the results as PNG files; returns the files."""
    # Imported late: the memory of a parent process counts for its child processes until they start.
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"font.size": 10, "text.color": _INK, "axes.labelcolor": _INK})
    drawn = []
    for name, panels in (("speed.png", _comparison(results)), ("scaling.png", _scaling(results))):
        shown = [panel for panel in panels if len(panel.settings) > 1]
        if shown:
            _figure(results, shown).savefig(folder / name, dpi=150, facecolor="white")
            drawn.append(folder / name)
    return drawn


def _comparison(results: Results) -> list[Panel]:
    """The time of all sides."""
    whole = _alike(results, lambda one: one.form == "all" and one.blocks == "last:2", "epochs")
    rows = _alike(results, lambda one: one.form in ("pairs", "first"), "rows")
    sides = (OURS, HF_PEFT, KERAS_LORA)
    return [
        Panel(
            title=f"Training time, {_of(whole, 'rows')} {_kind(whole)}",
            across="epochs",
            up="training, seconds",
            place=lambda one: one.epochs,
            measure=lambda run: run.train_seconds,
            settings=whole,
            sides=sides,
        ),
        Panel(
            title=f"Training time, {_epochs(rows)}",
            across=_kind(rows),
            up="training, seconds",
            place=lambda one: one.rows,
            measure=lambda run: run.train_seconds,
            settings=rows,
            sides=sides,
        ),
    ]


def _scaling(results: Results) -> list[Panel]:
    """Memory and time of this package."""
    rows = _alike(results, lambda one: one.form in ("pairs", "first"), "rows")
    lengths = _alike(results, lambda one: one.form == "joined", "max_length")
    return [
        Panel(
            title=f"Peak memory of keras-peft, {_epochs(rows)}",
            across=_kind(rows),
            up="peak memory, MB",
            place=lambda one: one.rows,
            measure=lambda run: run.peak_mb,
            settings=rows,
            sides=(OURS,),
        ),
        Panel(
            title=f"Training time of keras-peft, {_epochs(lengths)} of {_of(lengths, 'rows')} texts",
            across="tokens in each text",
            up="training, seconds",
            place=lambda one: one.max_length,
            measure=lambda run: run.train_seconds,
            settings=lengths,
            sides=(OURS,),
        ),
    ]


def _alike(results: Results, wanted: Callable[[Setting], bool], varied: str) -> list[Setting]:
    """Returns the largest group of settings that differ only in the given field, sorted by it."""
    settings = {run.setting for run in results.runs if wanted(run.setting)}

    def rest(setting: Setting) -> tuple[Any, ...]:
        return tuple(value for name, value in vars(setting).items() if name != varied)

    counts = Counter(map(rest, settings))
    best = max(counts, key=lambda key: (counts[key], str(key)), default=None)
    return sorted((one for one in settings if rest(one) == best), key=lambda one: getattr(one, varied))


def _figure(results: Results, panels: list[Panel]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _fill(axes, panel, results)
    return figure


def _fill(axes: Any, panel: Panel, results: Results) -> None:
    ends = []
    for side in panel.sides:
        points = [
            (panel.place(setting), statistics.median(map(panel.measure, runs.values())))
            for setting in panel.settings
            if (runs := results.of(setting, side))
        ]
        if not points:
            continue
        places, heights = zip(*points, strict=True)
        axes.plot(places, heights, "o-", color=_COLOURS[side], linewidth=2, markersize=5, clip_on=False)
        ends.append((heights[-1], places[-1], side))
        if len(panel.sides) == 1:  # leaves room for the numbers
            for place, height in points:
                axes.annotate(
                    f"{height:,.0f}",
                    (place, height),
                    xytext=(0, 7),
                    textcoords="offset points",
                    ha="center",
                    color=_COLOURS[side],
                )
    highest = max((height for height, _, _ in ends), default=1)
    axes.set_ylim(0, highest * 1.12)
    if len(panel.sides) > 1:
        _label_ends(axes, ends, highest)
    axes.set_xlim(0, None)
    axes.set_xticks([panel.place(setting) for setting in panel.settings])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label_ends(axes: Any, ends: Sequence[tuple[float, int, str]], highest: float) -> None:
    """Labels the end of each line with the side and the seconds; moves labels up to avoid overlaps."""
    lowest, last = 0.0, max((place for _, place, _ in ends), default=0)
    for height, place, side in sorted(ends):
        # The label of a shorter line is above its last point, since other lines may continue beside it.
        whole = place == last
        at = max(height, lowest) if whole else height
        axes.annotate(
            f"{_LABELS[side]}, {height:,.0f} s",
            (place, at),
            xytext=(9, 0) if whole else (0, 7),
            textcoords="offset points",
            ha="left" if whole else "center",
            va="center" if whole else "bottom",
            color=_COLOURS[side],
            annotation_clip=False,
        )
        lowest = at + 0.15 * highest if whole else lowest


def _of(settings: list[Setting], field: str) -> str:
    return f"{getattr(settings[0], field):,}" if settings else ""


def _epochs(settings: list[Setting]) -> str:
    count = settings[0].epochs if settings else 0
    return "1 epoch" if count == 1 else f"{count} epochs"


def _kind(settings: list[Setting]) -> str:
    kinds = {"all": "sentences", "pairs": "rows, each of two sentences", "first": "rows", "joined": "texts"}
    return kinds[settings[0].form] if settings else ""
