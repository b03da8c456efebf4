"""Formats the runs as Markdown: the figures of each side, and the ratios to this package."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from .bases import MINILM
from .bases import NAMES as BASES
from .plan import HF_PEFT, KERAS_LORA, NAMES, OURS, WARM, Setting
from .results import Machine, Results
from .sides import Measured

_MEASURES: dict[str, Callable[[Measured], float]] = {
    "training": lambda measured: measured.train_seconds,
    "whole process": lambda measured: measured.whole_seconds,
    "peak memory": lambda measured: measured.peak_mb,
}


def title(setting: Setting) -> str:
    """Returns the title of a table."""
    where = (
        "all blocks" if setting.blocks == "all" else f"the last {setting.blocks.removeprefix('last:')} blocks"
    )
    epochs = f"{setting.epochs} epoch{'s' if setting.epochs > 1 else ''}"
    base = "" if setting.base == MINILM else f" on {BASES[setting.base]}"
    return f"LoRA in {where}, {epochs} of {setting.rows:,} texts ({setting.data.replace('_', ' ')}){base}"


def _short_title(setting: Setting) -> str:
    where = "all blocks" if setting.blocks == "all" else "the last two blocks"
    base = "" if setting.base == MINILM else ", base of distilbert-base's size"
    return f"{where}, {setting.epochs} epoch{'s' if setting.epochs > 1 else ''}{base}"


def values(results: Results, setting: Setting) -> str:
    """The figures of each side: the mean with the minimum and maximum."""
    rows = []
    for side, name in NAMES.items():
        runs = list(results.of(setting, side).values())
        if not runs:
            continue
        cells = [
            name,
            _spread([run.train_seconds for run in runs], "{:.1f}"),
            _spread([run.whole_seconds for run in runs], "{:.1f}"),
            _spread([run.peak_mb for run in runs], "{:,.0f}"),
            _spread([run.accuracy for run in runs], "{:.3f}"),
            f"{runs[0].trainable_parameters:,}",
            str(len(runs)),
        ]
        rows.append(_row(cells))
    head = "| side | training, s | whole process, s | peak memory, MB | test accuracy | trained parameters | runs |"
    return "\n".join([head, "|---" * 7 + "|", *rows])


def ratios(results: Results, setting: Setting) -> str:
    """The ratios of the peers' figures to those of this package: median, minimum and maximum."""
    rows = []
    for own in (OURS, WARM):
        for peer in (HF_PEFT, KERAS_LORA):
            ours, theirs = results.of(setting, own), results.of(setting, peer)
            both = sorted(ours.keys() & theirs.keys())
            if not both:
                continue
            cells = [f"{NAMES[peer]} ÷ {NAMES[own]}"]
            for measure in _MEASURES.values():
                quotients = [measure(theirs[number]) / measure(ours[number]) for number in both]
                cells.append(_spread(quotients, "{:.2f}", statistics.median))
            rows.append(_row(cells))
    if not rows:
        return ""
    return "\n".join([f"| ratio | {' | '.join(_MEASURES)} |", "|---" * 4 + "|", *rows])


def sections(results: Results) -> str:
    """All tables with results, each under its heading."""
    parts = [[f"## {title(one)}", values(results, one), ratios(results, one)] for one in _tables(results)]
    return "\n\n".join(part for one in parts for part in one if part)


def _tables(results: Results) -> list[Setting]:
    settings = {run.setting for run in results.runs if run.setting.form == "all"}
    return sorted(settings, key=lambda one: (one.base != MINILM, one.data, one.blocks == "all", one.epochs))


def summary(results: Results) -> str:
    """The ratios of the peers' figures to those of this package, a row for each setting, for README.md."""
    rows = []
    for setting in _tables(results):
        cells = [_short_title(setting)]
        ours = results.of(setting, OURS)
        for peer in (HF_PEFT, KERAS_LORA):
            theirs = results.of(setting, peer)
            both = sorted(ours.keys() & theirs.keys())
            cells += [
                _spread([measure(theirs[n]) / measure(ours[n]) for n in both], "{:.1f}", statistics.median)
                if both
                else "–"
                for measure in _MEASURES.values()
            ]
        rows.append(_row(cells))
    measures = [
        f"{measure}, {name} ÷ keras-peft" for name in ("HF PEFT", "`enable_lora`") for measure in _MEASURES
    ]
    return "\n".join([f"| LoRA of rank 8 in | {' | '.join(measures)} |", "|---" * 7 + "|", *rows])


def machine(described: Machine) -> str:
    """A paragraph that describes the machine."""
    flags = [name for name, there in described.items() if there is True]
    lowered = {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    return (
        f"Measured on {described['cores']} cores of {described['processor']} "
        f"({', '.join(flags)}; {'no ' if lowered else ''}bfloat16 products), {described['memory_gib']} GiB of memory, "
        f"{described['system']}, Python {described['python']}, "
        f"{described['date']}, with {versions}."
    )


def _spread(
    numbers: Iterable[float], form: str, middle: Callable[[list[float]], float] = statistics.mean
) -> str:
    found = list(numbers)
    written = form.format(middle(found))
    if len(found) == 1:
        return written
    return f"{written} ({form.format(min(found))}–{form.format(max(found))})"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
