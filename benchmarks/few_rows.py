"""Accuracy with few labels, beside what people use for that.

    python -m benchmarks.few_rows FOLDER...                    everything
    python -m benchmarks.few_rows FOLDER... --sizes 100        one size
    python -m benchmarks.few_rows --docs                       the plot again, without measuring

Each FOLDER contains train.jsonl and test.jsonl with one label per text. The sizes are numbers of rows (`100`, a row
of each label in turn), rows of each label (`16-each`) or `all`. All sides get the same rows; each runs in its own
process, with its defaults. Each run is stored in benchmarks/results/few_rows.json as soon as it is measured, and is
not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .processes import SideFailed, measured
from .speed.bases import MINILM, checkpoint
from .speed.results import describe_machine
from .speed.tables import machine as described_machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "few_rows.json"
PLOT = ROOT / "docs" / "images" / "few_rows.png"
PEERS = Path(__file__).parent / "peers"

OURS, ALL, UNLABELLED = "keras-peft", "keras-peft --layers all", "keras-peft --unlabelled"
SETFIT, HF_PEFT, WORDS, VECTORS = "SetFit", "HF PEFT", "TF-IDF + LR", "frozen base + LR"
SIDES = (OURS, ALL, UNLABELLED, SETFIT, HF_PEFT, WORDS, VECTORS)
# What HF PEFT's guides train with, in all blocks.
HF_PEFT_FLAGS = ("--blocks", "all", "--epochs", 4, "--learning-rate", 1e-3, "--max-length", 128)
SIZES = ("8-each", "16-each", "64-each", "100", "all")
# SetFit trains on pairs, whose number grows with the square of the rows; more than this takes hours on a CPU.
MOST_FOR_SETFIT = 160
LIMIT = 3600.0
# With two seeds, an interval from Student's distribution is wider than the scale.
_FEWEST_SEEDS = 3
_COLOURS = {OURS: "#0b62b8", ALL: "#5aa0e0", UNLABELLED: "#0a8f6a", SETFIT: "#c65102", HF_PEFT: "#8a5a00"}
_COLOURS |= {WORDS: "#8c8c8c", VECTORS: "#444444"}


@dataclass(frozen=True)
class Run:
    """One training and its test."""

    data: str
    size: str
    seed: int
    side: str


def subset(
    rows: list[dict[str, Any]], size: str, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Draws the rows of a size.

    Args:
        rows: The training rows.
        size: One of the sizes of the module's docstring.
        seed: Random seed.

    Returns:
        The rows that keep their labels, and the others.
    """
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    if size == "all":
        return [rows[place] for place in order], []
    by_label: dict[str, list[int]] = {}
    for place in order:
        by_label.setdefault(rows[place]["label"], []).append(place)
    count, _, each = size.partition("-")
    if each:
        chosen = [place for label in sorted(by_label) for place in by_label[label][: int(count)]]
    else:
        longest = max(map(len, by_label.values()))
        turns = (by_label[label][turn : turn + 1] for turn in range(longest) for label in sorted(by_label))
        chosen = [place for turn in turns for place in turn][: int(count)]
    taken = set(chosen)
    return [rows[place] for place in chosen], [rows[place] for place in order if place not in taken]


class Sides:
    """Runs any side on any rows.

    Args:
        folders: Folders with the data, by name.
        peers: Python with the libraries to compare with.
        scratch: Folder for all files of the runs.
    """

    def __init__(self, folders: dict[str, Path], peers: Path, scratch: Path) -> None:
        self._folders, self._peers, self._scratch = folders, peers, scratch
        self._base = checkpoint(MINILM, scratch)

    def run(self, run: Run) -> dict[str, Any] | None:
        """Trains and tests once; returns the results, or None if the side cannot run on so many rows."""
        train, test = (_read(self._folders[run.data] / f"{part}.jsonl") for part in ("train", "test"))
        rows, others = subset(train, run.size, run.seed)
        if (run.side == SETFIT and len(rows) > MOST_FOR_SETFIT) or (run.side == UNLABELLED and not others):
            return None
        for name, own in (
            ("train", rows),
            ("test", test),
            ("unlabelled", [{"text": r["text"]} for r in others]),
        ):
            lines = (json.dumps(row) + "\n" for row in own)
            (self._scratch / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        if run.side in (OURS, ALL, UNLABELLED):
            found = self._keras_peft(run)
        elif run.side in (WORDS, VECTORS):
            features = "words" if run.side == WORDS else "vectors"
            program = [sys.executable, "-m", "benchmarks.baselines", self._scratch, "--json", features]
            found = self._measure(program, {"PYTHONPATH": str(ROOT)})
        else:
            name, flags = ("setfit.py", ()) if run.side == SETFIT else ("hf_peft.py", HF_PEFT_FLAGS)
            files = ["--train", self._scratch / "train.jsonl", "--test", self._scratch / "test.jsonl"]
            program = [self._peers, PEERS / name, "--model", self._base, *files, *flags, "--seed", run.seed]
            found = self._measure(program)
        return {**asdict(run), "rows": len(rows), **found}

    def _keras_peft(self, run: Run) -> dict[str, Any]:
        flags = {OURS: [], ALL: ["--layers", "all"], UNLABELLED: ["--unlabelled", "unlabelled.jsonl"]}[
            run.side
        ]
        command = [sys.executable, "-c", "from keras_peft.cli import main; main()"]
        out = ["--out", "bundle", "--overwrite", "--seed", run.seed, "--json"]
        trained = self._measure([*command, "train", "train.jsonl", *out, *flags])
        score, _, _ = measured(
            [*command, "evaluate", "bundle", "test.jsonl", "--json"], scratch=self._scratch, limit=LIMIT
        )
        kept = {key: score["metrics"][key] for key in ("accuracy", "macro_f1", "calibration_error")}
        return {**trained, **kept}

    def _measure(self, command: list[Any], environment: dict[str, str] | None = None) -> dict[str, Any]:
        said, seconds, peak = measured(command, scratch=self._scratch, limit=LIMIT, environment=environment)
        known = {key: said[key] for key in ("accuracy", "macro_f1", "calibration_error") if key in said}
        return {**known, "seconds": round(seconds, 1), "peak_mb": round(peak)}


def main() -> None:
    """Measures what is missing, and draws the plot."""
    options = parse()
    stored = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"machine": None, "runs": []}
    if not options.docs:
        folders = {folder.name: folder for folder in options.folders}
        known = {_key(one) for one in stored["runs"]}
        runs = [
            Run(data, size, seed, side)
            for seed in range(options.seeds)
            for size in options.sizes
            for data in folders
            for side in options.sides
        ]
        if not options.busy or not stored["machine"]:  # The seconds are those of this machine.
            stored["machine"] = describe_machine(options.peers)
        with tempfile.TemporaryDirectory(prefix="keras-peft-few-") as scratch:
            sides = Sides(folders, options.peers, Path(scratch))
            for number, run in enumerate(runs, 1):
                if _key(asdict(run)) in known:
                    continue
                began = time.perf_counter()
                try:
                    found = sides.run(run)
                except SideFailed as error:
                    print(f"{run} failed: {error}", file=sys.stderr, flush=True)
                    continue
                if found is None:
                    continue
                if options.busy:
                    found = {key: value for key, value in found.items() if key not in ("seconds", "peak_mb")}
                stored["runs"].append(found)
                RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
                took = time.perf_counter() - began
                print(
                    f"{number} of {len(runs)}: {run.data}, {run.size}, seed {run.seed}, {run.side}: "
                    f"accuracy {found['accuracy']:.3f}, {took:.0f} s",
                    flush=True,
                )
        print(tables(stored))
    draw(stored, PLOT)


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.few_rows",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="*", type=Path, metavar="FOLDER")
    add("--sizes", nargs="+", default=list(SIZES))
    add("--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="SIDE", help=", ".join(SIDES))
    add("--seeds", type=int, default=5, help="number of subsets of each size")
    add("--peers", type=Path, default=Path(".venv-peers/bin/python"), help="Python with the peers' packages")
    add("--busy", action="store_true", help="other work runs here: do not keep the seconds and the memory")
    add("--docs", action="store_true", help="draw the plot from what is known")
    options = parser.parse_args()
    if not options.folders and not options.docs:
        options.folders = [ROOT / "benchmarks" / "data" / "sentiment_sentences"]
    options.folders = [folder.resolve() for folder in options.folders]
    # Not resolved, since Python finds its environment by the link.
    options.peers = options.peers.absolute()
    return options


def tables(stored: dict[str, Any]) -> str:
    """Returns a table for each size: the accuracy of each side, and its difference to keras-peft's."""
    parts = [described_machine(stored["machine"])] if stored["machine"] else []
    runs = stored["runs"]
    sides = [side for side in SIDES if any(one["side"] == side for one in runs)]
    for size in _sizes(runs):
        lines = [
            f"### {_titled(size)}",
            "",
            f"| data | rows | {' | '.join(sides)} |",
            "|---" * (2 + len(sides)) + "|",
        ]
        for data in _names(runs):
            by_side = {side: _by_seed(runs, data, size, side) for side in sides}
            if not any(by_side.values()):
                continue
            rows = next(one["rows"] for one in runs if (one["data"], one["size"]) == (data, size))
            lines.append(f"| {data} | {rows:,} | {' | '.join(_cell(by_side, side) for side in sides)} |")
        lines += ["", f"| {_titled(size)} | {' | '.join(sides)} |", "|---" * (1 + len(sides)) + "|"]
        for title, key, form in (
            ("whole process, seconds", "seconds", "{:,.0f}"),
            ("peak memory, MB", "peak_mb", "{:,.0f}"),
            ("calibration error", "calibration_error", "{:.3f}"),
        ):
            cells = []
            for side in sides:
                values = [
                    one[key] for one in runs if (one["size"], one["side"]) == (size, side) and key in one
                ]
                cells.append(form.format(statistics.mean(values)) if values else "")
            lines.append(f"| {title} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(by_side: dict[str, dict[int, float]], side: str) -> str:
    """Formats the mean with its 95% interval, and the difference to keras-peft on the same rows."""
    own = by_side[side]
    if not own:
        return ""
    text = _interval(list(own.values()))
    both = own.keys() & by_side[OURS].keys()
    if side == OURS or not both:
        return text
    differences = [own[seed] - by_side[OURS][seed] for seed in both]
    return f"{text} ({_interval(differences, sign='+')})"


def _interval(values: list[float], sign: str = "") -> str:
    """Formats the mean of values with half the width of its 95% interval, from Student's distribution."""
    mean = f"{statistics.mean(values):{sign}.3f}".replace("0.", ".", 1)
    if len(values) < _FEWEST_SEEDS:
        return mean
    return f"{mean} ± {_half_width(values):.3f}".replace("± 0.", "± .")


def _half_width(values: list[float]) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def draw(stored: dict[str, Any], path: Path) -> None:
    """Plots the accuracy against the number of rows, for each data set."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    runs = stored["runs"]
    names = _names(runs)
    if not names:
        return
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines + 0.5), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for place, data in zip(axes, names, strict=False):
        for side in SIDES:
            points = sorted(
                (
                    next(one["rows"] for one in runs if (one["data"], one["size"]) == (data, size)),
                    statistics.mean(found.values()),
                    _half_width(list(found.values())) if len(found) >= _FEWEST_SEEDS else 0.0,
                )
                for size in _sizes(runs)
                if (found := _by_seed(runs, data, size, side))
            )
            if points:
                rows, means, widths = zip(*points, strict=True)
                place.errorbar(
                    rows, means, widths, fmt="o-", color=_COLOURS[side], label=side, markersize=4, capsize=2
                )
        place.set_xscale("log")
        ticks = _apart(sorted({one["rows"] for one in runs if one["data"] == data}))
        place.set_xticks(ticks, [f"{rows:,}" for rows in ticks])
        place.minorticks_off()
        place.set_title(data.replace("_", " "), fontsize=10, loc="left")
        place.set_xlabel("labelled rows")
        place.set_ylabel("test accuracy")
        place.grid(axis="y", color="#e3e3e3", linewidth=0.8)
        place.spines[["top", "right"]].set_visible(False)
    for place in axes[len(names) :]:
        place.set_visible(False)
    shown = {
        label: line for one in axes for line, label in zip(*one.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=130, facecolor="white")


def _apart(ticks: list[int]) -> list[int]:
    """Leaves out ticks whose text would touch the one before, on a logarithmic scale."""
    least = (ticks[-1] / ticks[0]) ** 0.08
    kept = ticks[:1]
    kept += [tick for before, tick in pairwise(ticks) if tick / before > least]
    return kept


def _by_seed(runs: list[dict[str, Any]], data: str, size: str, side: str) -> dict[int, float]:
    key = (data, size, side)
    return {one["seed"]: one["accuracy"] for one in runs if (one["data"], one["size"], one["side"]) == key}


def _sizes(runs: list[dict[str, Any]]) -> list[str]:
    found = {one["size"] for one in runs}
    return [size for size in SIZES if size in found] + sorted(found - {*SIZES})


def _names(runs: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["data"] for one in runs))


def _titled(size: str) -> str:
    count, _, each = size.partition("-")
    return "All rows" if size == "all" else f"{count} rows of each label" if each else f"{count} rows"


def _key(run: dict[str, Any]) -> tuple[Any, ...]:
    return run["data"], run["size"], run["seed"], run["side"]


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [{"text": row["text"], "label": row["label"]} for row in map(json.loads, lines)]


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted. What was measured is kept, and the same command goes on from there.")
