"""The working tree against an earlier version of this repository, in three minutes.

    python -m benchmarks.speed.quick

Both versions run the same commands with the same packages, in turn, each in a process of its own. What slows the
machine meanwhile slows both, so the ratios are comparable between runs, and between machines with the same kind of
processor; the seconds are not. Each run of this benchmark adds a line to benchmarks/results/quick.jsonl.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..processes import SideFailed, measured
from . import texts
from .plan import BATCH_SIZE, MAX_LENGTH, RANK, Setting
from .results import describe_machine

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "quick.jsonl"
DATA = ROOT / "benchmarks" / "data" / "sentiment_sentences"

# The version to compare with. A later one is chosen only if this one no longer runs with current packages.
PINNED = "e2f2838"
HERE, THERE = "here", "pinned"
SECONDS = 150.0
# Beyond this many rows, the head and the schedule are those of the main job.
ROWS, EPOCHS = 1200, 2
MEASURES = {
    "training": "training, s",
    "training process": "training, whole process, s",
    "training memory": "training, peak memory, MB",
    "prediction process": "prediction, whole process, s",
    "prediction memory": "prediction, peak memory, MB",
}
_MAIN = "from keras_peft.cli import main; main()"
_SHOWN = 5


def main() -> None:
    """Measures, prints the ratios and adds them to the history."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="keras-peft-quick-") as folder:
        scratch = Path(folder)
        try:
            trees = {HERE: ROOT / "src", THERE: unpack(options.pinned, scratch / "pinned")}
            pairs = measure(trees, scratch, rows=options.rows, epochs=options.epochs, seconds=options.seconds)
        except SideFailed as error:
            sys.exit(str(error))
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "pinned": options.pinned,
        "rows": options.rows,
        "epochs": options.epochs,
        "load": round(os.getloadavg()[0], 1),
        "machine": describe_machine(Path("no-peers")),
        "pairs": pairs,
        "ratios": ratios(pairs),
    }
    history = (
        [json.loads(line) for line in options.results.read_text().splitlines()]
        if options.results.is_file()
        else []
    )
    print("\n".join(lines(entry, history)))
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(entry)}\n")


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.quick",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--pinned", default=PINNED, metavar="COMMIT", help=f"version to compare with; {PINNED} by default")
    add("--rows", type=int, default=ROWS, help="training rows")
    add("--epochs", type=int, default=EPOCHS)
    add("--seconds", type=float, default=SECONDS, help="no new pair begins if it would end later")
    add("--results", type=Path, default=RESULTS, metavar="FILE", help="the history, as JSON lines")
    return parser.parse_args()


def unpack(commit: str, folder: Path) -> Path:
    """Writes the package of a commit to a folder.

    Args:
        commit: The commit.
        folder: The folder, which does not exist.

    Returns:
        The folder to import the package from.

    Raises:
        SideFailed: If this is no git repository, or has no such commit.
    """
    try:
        command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, "src"]
        packed = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode(errors="replace").strip().splitlines()[:1]
        reason = said[0] if said else error
        raise SideFailed(
            f"The version {commit} cannot be read from git ({reason}); give another one as --pinned, or clone the "
            "whole repository."
        ) from error
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def measure(
    trees: dict[str, Path], scratch: Path, *, rows: int, epochs: int, seconds: float
) -> list[dict[str, dict[str, float]]]:
    """Measures pairs of runs, one of each version, until the time is over.

    Args:
        trees: Folder to import the package from, by version.
        scratch: Folder for all files.
        rows: Number of training rows.
        epochs: Number of epochs.
        seconds: Time for the pairs; at least two are measured.

    Returns:
        The figures of each pair, by version and measure.
    """
    data = texts.read(DATA)
    rows = min(rows, len(data.train))
    setting = Setting(data=data.name, form="first", rows=rows, test_rows=max(20, rows // 5), epochs=epochs)
    files = texts.write(data, setting, scratch)
    began, pairs = time.perf_counter(), []
    while True:
        started = time.perf_counter()
        order = (HERE, THERE) if len(pairs) % 2 else (THERE, HERE)
        found = {version: _run(trees[version], scratch, setting, files) for version in order}
        pairs.append({version: found[version] for version in trees})
        now = time.perf_counter()
        print(f"Pair {len(pairs)}: {now - started:.0f} s", file=sys.stderr, flush=True)
        if len(pairs) > 1 and now - began + (now - started) > seconds:
            return pairs


def _run(tree: Path, scratch: Path, setting: Setting, files: texts.Files) -> dict[str, float]:
    """Trains and predicts with one version."""
    cache, bundle = scratch / "cache", scratch / "bundle"
    shutil.rmtree(cache / "trunk", ignore_errors=True)
    environment = {"PYTHONPATH": os.pathsep.join([str(tree), str(ROOT)]), "KERAS_PEFT_CACHE": str(cache)}
    flags = ["--rank", RANK, "--layers", setting.blocks, "--epochs", setting.epochs, "--seed", 0]
    flags += ["--batch-size", BATCH_SIZE, "--max-length", MAX_LENGTH, "--json", "--overwrite"]
    train = ["train", files.train, "--validation", files.test, "--out", bundle, *flags]
    command = [sys.executable, "-c", _MAIN]
    said, whole, peak = measured([*command, *train], scratch=scratch, limit=600, environment=environment)
    predict = [
        "predict",
        bundle,
        "--input",
        files.test,
        "--output",
        scratch / "out.jsonl",
        "--overwrite",
        "--json",
    ]
    _, answered, most = measured([*command, *predict], scratch=scratch, limit=600, environment=environment)
    trained = said["seconds"].get("trunk", 0.0) + said["seconds"]["train"]
    return dict(zip(MEASURES, (trained, whole, peak, answered, most), strict=True))


def ratios(pairs: Sequence[dict[str, dict[str, float]]]) -> dict[str, list[float]]:
    """Returns for each measure the median, lowest and highest quotient of pinned and present figures.

    Above 1, the working tree is better.
    """
    found = {}
    for name in MEASURES:
        quotients = [pair[THERE][name] / pair[HERE][name] for pair in pairs]
        found[name] = [
            round(one, 3) for one in (statistics.median(quotients), min(quotients), max(quotients))
        ]
    return found


def lines(entry: dict[str, Any], history: Sequence[dict[str, Any]]) -> list[str]:
    """Formats a run and the last ones before it, in 80 columns."""
    made = [
        f"{entry['commit']} against {entry['pinned']}: {len(entry['pairs'])} pairs, {entry['rows']:,} texts, "
        f"{entry['epochs']} epochs",
        "",
        f"{'':<31}{'here':>9}{'pinned':>9}{'pinned ÷ here':>16}",
    ]
    for name, title in MEASURES.items():
        own, other = (
            statistics.median(pair[version][name] for pair in entry["pairs"]) for version in (HERE, THERE)
        )
        middle, low, high = entry["ratios"][name]
        form = ",.0f" if title.endswith("MB") else ".1f"
        made.append(f"{title:<31}{own:>9{form}}{other:>9{form}}{middle:>9.2f} ({low:.2f}–{high:.2f})")
    if entry["load"] > 2:
        made.append(f"Something else was running (load {entry['load']}): expect a wide range.")
    comparable = [
        one for one in history if all(one[key] == entry[key] for key in ("pinned", "rows", "epochs"))
    ]
    if comparable:
        made += ["", "Before, with the same setting (pinned ÷ here):"]
        made.append(f"{'commit':<19}{'training':>12}{'whole process':>16}{'memory':>10}")
        for one in comparable[-_SHOWN:]:
            shown = [one["ratios"][name][0] for name in list(MEASURES)[:3]]
            made.append(f"{one['commit']:<19}{shown[0]:>12.2f}{shown[1]:>16.2f}{shown[2]:>10.2f}")
    return made


def _commit() -> str:
    """Returns the commit of the working tree, with a mark if files differ from it."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "describe",
        "--always",
        "--abbrev=7",
        "--exclude=*",
        "--dirty=+changes",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    main()
