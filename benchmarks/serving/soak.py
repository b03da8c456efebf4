"""Minutes of mixed load on one server while its adapters are reloaded: no errors, constant memory.

    python -m benchmarks.serving.soak --minutes 10

The load is 80 % of the highest throughput of the same mixture, measured just before. Every few seconds an
adapter of the mixture is reloaded, and another adapter that receives no requests is unloaded or loaded. The
results are written to benchmarks/results/soak.json and docs/images/soak.png; `make docs` adds them to
docs/benchmarks/serving.md.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed import texts
from benchmarks.speed.results import Machine, describe_machine

from .__main__ import PACKAGES, prepare, say
from .load import Order, Report
from .options import with_minutes
from .plan import CONNECTIONS, LORAS, MIXED
from .requests import predict
from .servers import ROOT, Server, ServerFailed, keras_peft

RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
IMAGE = ROOT / "docs" / "images" / "soak.png"
SHARE = 0.8
_CHANGE_SECONDS = 5.0
_SAMPLE_SECONDS = 5.0
_WINDOW_SECONDS = 10.0
_INK = "#222222"


@dataclass
class Seen:
    """Observations of the server under load.

    Attributes:
        memory: Seconds since the start, and MiB.
        loads: Number of loads, most of them reloads.
        unloads: Number of unloads.
        problems: Errors of failed loads and unloads.
    """

    memory: list[tuple[float, float]] = field(default_factory=list)
    loads: int = 0
    unloads: int = 0
    problems: list[str] = field(default_factory=list)


def main() -> None:
    """Runs the test and writes the results."""
    options = with_minutes("soak", __doc__)
    prepare(options.work, options.data)
    machine = describe_machine(options.peers, PACKAGES)
    train = [row["text"] for row in texts.read(options.data).train]
    right = json.loads((options.work / "labels.json").read_text(encoding="utf-8"))
    requests = predict(train, MIXED, right)
    with keras_peft(options.work / "served", options.work / "soak.log") as server:
        say("Measuring the highest throughput …")
        order = Order(port=server.port, requests=requests, connections=CONNECTIONS, seconds=15.0)
        highest = server.under(order).throughput
        rate = SHARE * highest
        say(f"{options.minutes:g} minutes of {rate:.0f} requests per second …")
        with _watched(server) as seen:
            report = server.under(
                Order(
                    port=server.port,
                    requests=requests,
                    connections=4 * CONNECTIONS,
                    rate=rate,
                    seconds=60.0 * options.minutes,
                    window=_WINDOW_SECONDS,
                )
            )
    content = summarise(machine, highest, rate, report, seen)
    print(json.dumps({key: value for key, value in content.items() if key not in ("windows", "memory")}))
    if not options.quick:
        write(content, RESULTS)
        draw(content, IMAGE)
    sys.exit(1 if report.failures or seen.problems else 0)


def summarise(machine: Machine, highest: float, rate: float, report: Report, seen: Seen) -> dict[str, Any]:
    """Collects the results: figures, and memory and latency over time."""
    figures = asdict(report)
    windows = figures.pop("windows")
    end = seen.memory[-1][0]
    first, last = (
        statistics.median(mb for at, mb in seen.memory if begin <= at <= begin + end / 10)
        for begin in (end / 10, 0.9 * end)
    )
    return {
        "machine": {**machine, "versions": {name: machine["versions"][name] for name in PACKAGES}},
        "highest": highest,
        "rate": rate,
        "adapters": len(MIXED),
        **figures,
        "failures": report.failures,
        "loads": seen.loads,
        "unloads": seen.unloads,
        "problems": seen.problems,
        # Medians over the second tenth of the run, after every adapter was used, and over the last.
        "memory_first_mb": first,
        "memory_last_mb": last,
        "windows": windows,
        "memory": seen.memory,
    }


def write(content: dict[str, Any], path: Path) -> None:
    """Writes the results, one point of time per line."""
    series = {key: content[key] for key in ("windows", "memory")}
    lines = [f'  "{key}": {json.dumps(value)}' for key, value in content.items() if key not in series]
    lines += [
        f'  "{key}": [\n    ' + ",\n    ".join(map(json.dumps, values)) + "\n  ]"
        for key, values in series.items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def draw(content: dict[str, Any], path: Path) -> None:
    """Plots memory and latency over time."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"font.size": 10, "text.color": _INK, "axes.labelcolor": _INK})
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 3.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
    weight, latency = figure.subplots(1, 2)
    minutes, mb = zip(*((at / 60, mb) for at, mb in content["memory"]), strict=True)
    weight.plot(minutes, mb, color="#0b62b8", linewidth=2)
    weight.set_title(
        f"Memory of the server, {content['adapters']} adapters loaded and unloaded", fontsize=10, loc="left"
    )
    weight.set_ylabel("memory, MB")
    ends = [window["end"] / 60 for window in content["windows"]]
    for name, colour in (("p99", "#c65102"), ("p50", "#0b62b8")):
        values = [window[name] for window in content["windows"]]
        latency.plot(ends, values, color=colour, linewidth=2)
        latency.annotate(
            name,
            (ends[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )
    latency.set_title(
        f"Latency at {content['rate']:,.0f} requests per second, every {_WINDOW_SECONDS:.0f} s",
        fontsize=10,
        loc="left",
    )
    latency.set_ylabel("milliseconds")
    for axes in (weight, latency):
        axes.set_xlabel("minutes")
        axes.set_xlim(0, None)
        axes.set_ylim(0, 1.12 * max(max(line.get_ydata()) for line in axes.lines))
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.savefig(path, dpi=150, facecolor="white")


@contextmanager
def _watched(server: Server) -> Iterator[Seen]:
    """Measures a server's memory and reloads its adapters until the block ends."""
    seen, ends, began = Seen(), threading.Event(), time.monotonic()
    draw = random.Random(0)

    def weigh() -> None:
        while not ends.is_set():
            seen.memory.append((round(time.monotonic() - began, 1), round(server.memory_mb(), 1)))
            ends.wait(_SAMPLE_SECONDS)

    def change() -> None:
        others = dict.fromkeys((name for name in LORAS if name not in MIXED), "unload")
        while not ends.wait(_CHANGE_SECONDS):
            other = draw.choice(list(others))
            for name, what in ((draw.choice(MIXED), "load"), (other, others[other])):
                try:
                    server.ask("POST", f"/v2/repository/models/{name}/{what}", {})
                except (ServerFailed, OSError) as error:
                    seen.problems.append(f"{what} {name}: {error}")
                if what == "load":
                    seen.loads += 1
                else:
                    seen.unloads += 1
            others[other] = "load" if others[other] == "unload" else "unload"

    threads = [threading.Thread(target=one) for one in (weigh, change)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ends.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
