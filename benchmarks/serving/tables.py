"""Formats the results as Markdown: a summary of the targets, then each scene with its sides."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.speed.tables import machine

from .attackers import summary as attack_of
from .plan import BY_NAME, PROGRAMS, SCENES, Scene
from .results import Figures, Results

Column = tuple[str, Callable[[Figures], float], str]

_LOADED: tuple[Column, ...] = (
    ("responses per second", lambda one: one["throughput"], "{:,.0f}"),
    ("p50, ms", lambda one: one["p50"], "{:.1f}"),
    ("p95, ms", lambda one: one["p95"], "{:.1f}"),
    ("p99, ms", lambda one: one["p99"], "{:.1f}"),
    ("server's memory, MB", lambda one: one["memory_mb"], "{:,.0f}"),
)
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "loading": (
        ("median, ms", lambda one: one["milliseconds"], "{:.1f}"),
        ("slowest, ms", lambda one: one["most"], "{:.1f}"),
    ),
    "memory": (
        ("one adapter, MB", lambda one: one["mb"], "{:.2f}"),
        ("its file, MB", lambda one: one["file_mb"], "{:.2f}"),
        ("server with 21 adapters, MB", lambda one: one["server_mb"], "{:,.0f}"),
    ),
    "equality": (
        ("difference", lambda one: one["difference"], "{:.1e}"),
        ("largest logit", lambda one: one["largest"], "{:.1f}"),
        ("rows", lambda one: one["rows"], "{:,.0f}"),
    ),
}


def ratios(repetitions: Sequence[dict[str, Figures]], scene: Scene) -> list[float]:
    """Returns the figure of a scene for each repetition, as a ratio if it has a side to compare with."""
    found = []
    for sides in repetitions:
        figure = sides[scene.asked][scene.figure]
        found.append(figure if scene.against is None else figure / sides[scene.against][scene.figure])
    return found


def is_met(scene: Scene, found: Sequence[float]) -> bool:
    """Whether the median meets the target."""
    middle = statistics.median(found)
    return middle <= scene.limit if scene.is_most else middle >= scene.limit


def summary(results: Results) -> str:
    """A row for each scene: the target and the result."""
    rows = ["| what | target | measured | met |", "|---|---|---|---|"]
    for scene in SCENES:
        if not (repetitions := results.scenes.get(scene.name)):
            continue
        found = ratios(repetitions, scene)
        what = scene.title
        if scene.against is not None:
            what += f", {scene.figure}: {scene.sides[scene.asked]} ÷ {scene.sides[scene.against]}"
        least = "at most" if scene.is_most else "at least"
        limit = scene.form.replace(".2f", "g").replace(".1e", "g").format(scene.limit)
        target, measured = (f"{one} {scene.unit}".rstrip() for one in (limit, _spread(found, scene.form)))
        met = "yes" if is_met(scene, found) else "no"
        rows.append(f"| {what} | {least} {target} | {measured} | {met} |")
    return "\n".join(rows)


def sections(results: Results) -> str:
    """A table for each scene."""
    parts = []
    for scene in SCENES:
        if repetitions := results.scenes.get(scene.name):
            parts += [f"### {scene.title}", _table(scene, repetitions)]
    if results.tried:
        parts += ["### PyTorch settings tried", _tried(results)]
    return "\n\n".join(parts)


def soak(content: dict[str, Any]) -> str:
    """The results of the soak test, with the plot."""
    rows = {
        "load": f"{content['rate']:,.0f} requests per second, {content['rate'] / content['highest']:.0%} of the "
        "highest throughput",
        "time": f"{content['seconds'] / 60:.0f} minutes",
        "adapters": f"{content['adapters']}, of four methods, at random",
        "loaded, unloaded": f"{content['loads']} times, {content['unloads']} times",
        "answers": f"{content['answers']:,}",
        "failures": f"{content['failures'] + len(content['problems']):,}",
        "answers compared with `keras_peft.load`, different": f"{content['checked']:,}, {content['wrong']:,}",
        "p50, p95, p99": f"{content['p50']:.0f}, {content['p95']:.0f}, {content['p99']:.0f} ms",
        "slowest": f"{content['slowest']:,.0f} ms",
        "memory in the second tenth of the run": f"{content['memory_first_mb']:,.0f} MB",
        "memory in the last tenth of the run": f"{content['memory_last_mb']:,.0f} MB",
    }
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    picture = "![Memory of the server and latency over time](../images/soak.png)"
    return "\n\n".join([machine(content["machine"]), "\n".join(lines), picture])


def attack(content: dict[str, Any]) -> str:
    """The results of honest clients beside attackers."""
    lines = [
        f"| {content['rate']:,.0f} requests per second | answers | failures | p50, ms | p99, ms |",
        "|---|---|---|---|---|",
    ]
    for side, title in (("alone", "honest clients alone"), ("beside", "beside attackers")):
        one = content[side]
        lines.append(
            f"| {title} | {one['answers']:,} | {one['failures']:,} | {one['p50']:.1f} | {one['p99']:.1f} |"
        )
    kinds = ["| attackers | attacks | how they ended |", "|---|---|---|"]
    for name, ends in content["attacks"].items():
        said = ", ".join(f"{count:,} {end}" for end, count in sorted(ends.items(), key=lambda one: -one[1]))
        kinds.append(f"| {attack_of(name)} | {sum(ends.values()):,} | {said} |")
    memory = (
        f"The server's memory was {content['memory_before_mb']:,.0f} MB before and "
        f"{content['memory_after_mb']:,.0f} MB after {content['minutes']:g} minutes of attacks."
    )
    return "\n\n".join([machine(content["machine"]), "\n".join(lines), "\n".join(kinds), memory])


def thousand(content: dict[str, Any]) -> str:
    """The results of a server with a thousand adapters."""
    count = content["adapters"]
    rows = [
        ("ready to answer", f"{content['ready_seconds']:.1f} s after the start"),
        (f"all {count:,} adapters loaded", f"{content['loaded_seconds']:.0f} s after the start"),
        ("memory with all of them", f"{content['memory_mb']:,.0f} MB"),
        *(
            (
                f"p50, p99 of {content['rate']:,.0f} requests per second to {title}",
                f"{content[side]['p50']:.1f}, {content[side]['p99']:.1f} ms",
            )
            for side, title in (("one", "one adapter"), ("all", "all at random"))
        ),
        ("answers, failures", f"{content['all']['answers']:,}, {content['all']['failures']:,}"),
        ("times unloaded and loaded", f"{content['cycles']:,}"),
        ("one load, median and slowest", f"{content['load_ms']:.0f}, {content['slowest_load_ms']:.0f} ms"),
        ("memory in the second tenth of these", f"{content['memory_first_mb']:,.0f} MB"),
        ("memory in the last tenth", f"{content['memory_last_mb']:,.0f} MB"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]
    return "\n\n".join([machine(content["machine"]), "\n".join(lines)])


def _table(scene: Scene, repetitions: Sequence[dict[str, Figures]]) -> str:
    columns = _COLUMNS.get(scene.name, _LOADED)
    rows = [f"| | {' | '.join(name for name, _, _ in columns)} |", "|---" * (1 + len(columns)) + "|"]
    for side, title in scene.sides.items():
        # A side that was added later is missing in repetitions from before.
        runs = [sides[side] for sides in repetitions if side in sides]
        if not runs:
            continue
        cells = [_spread(map(read, runs), form) for _, read, form in columns]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _tried(results: Results) -> str:
    rows = ["| side | flags | requests per second |", "|---|---|---|"]
    titles = {side: title for scene in BY_NAME.values() for side, title in scene.sides.items()}
    for side in PROGRAMS:
        for flags, throughput in results.tried.get(side, {}).items():
            rows.append(f"| {titles[side]} | `{flags}` | {throughput:.0f} |")
    return "\n".join(rows)


def _spread(numbers: Iterable[float], form: str) -> str:
    """The median, with the minimum and maximum if they differ when formatted."""
    found = list(numbers)
    middle, least, most = (form.format(value) for value in (statistics.median(found), min(found), max(found)))
    return middle if least == most else f"{middle} ({least} – {most})"
