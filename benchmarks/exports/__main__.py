"""Compares exports with Keras and PyTorch.

    python -m benchmarks.exports FOLDER...             everything
    python -m benchmarks.exports FOLDER... --only cold some of it

Each FOLDER contains train.jsonl and test.jsonl. On each, a classifier is trained with the defaults and exported. The
times are measured on the first, the sides in turn; each figure is the best of its rounds. The results are stored in
benchmarks/results/exports.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import measured
from benchmarks.speed.bases import MINILM, checkpoint
from benchmarks.speed.results import OWN_PACKAGES, describe_machine

from . import tables

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "exports.json"
PEERS = ROOT / "benchmarks" / "peers"
PACKAGES = (*OWN_PACKAGES, "onnxruntime", "onnx")
PARTS = ("quality", "cold", "speed", "slots")
PRECISIONS = {"float32": (), "float16": ("--fp16-weights",), "int8": ("--quantize", "int8")}
CLI = (sys.executable, "-c", "from keras_peft.cli import main; main()")
LIMIT = 3600.0
TEXT = "Which of the two is faster?"


def main() -> None:
    """Measures and prints the tables."""
    options = parse()
    stored = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    stored["machine"] = describe_machine(options.peers, PACKAGES)
    options.work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="keras-peft-exports-") as scratch:
        bench = Bench(options.folders, options.work, options.peers, Path(scratch), options.rounds)
        for part in options.only:
            say(part)
            stored[part] = getattr(bench, part)()
            RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
    print(tables.all_of(stored))


class Bench:
    """Runs the parts.

    Args:
        folders: Folders with the data.
        work: Folder for bundles and exports, which are kept.
        peers: Python with the peers' packages.
        scratch: Folder for the output of processes.
        rounds: Number of rounds of the sides.
    """

    def __init__(self, folders: list[Path], work: Path, peers: Path, scratch: Path, rounds: int) -> None:
        self._folders, self._work, self._peers = folders, work, peers
        self._scratch, self._rounds = scratch, rounds
        self._base = checkpoint(MINILM, scratch)

    def quality(self) -> list[dict[str, Any]]:
        """Exports each classifier in each precision, and compares it with the bundle on the test file."""
        found = []
        for folder in self._folders:
            bundle = self.bundle(folder)
            for precision, flags in PRECISIONS.items():
                out = self.export(folder, precision)
                command = [*CLI, "export", bundle, "--format", "onnx", "--out", out, "--overwrite", "--json"]
                said, seconds, _ = self.run([*command, "--data", folder / "test.jsonl", *flags])
                del said["folder"]
                size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
                found.append(
                    {"data": folder.name, "precision": precision, "seconds": seconds, "bytes": size, **said}
                )
                say(f"  {folder.name}, {precision}: {said}")
        return found

    def cold(self) -> dict[str, Any]:
        """Measures the time and memory of a process that answers one text."""
        first = self._folders[0]
        predict = [*CLI, "predict"]
        sides = {
            "export int8": [*predict, self.export(first, "int8"), TEXT, "--json"],
            "export float32": [*predict, self.export(first, "float32"), TEXT, "--json"],
            "bundle": [*predict, self.bundle(first), TEXT, "--json"],
            "bundle, Keras": [*predict, self.bundle(first), TEXT, "--json", "--engine", "keras"],
            "transformers.pipeline": [self._peers, PEERS / "first_answer.py", "--model", self._base],
        }
        runs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(self._rounds):
            for side, command in sides.items():
                _, seconds, peak = self.run(command)
                runs[side].append((seconds, peak))
        return {
            side: {
                "seconds": statistics.median(seconds for seconds, _ in own),
                "peak_mb": max(peak for _, peak in own),
            }
            for side, own in runs.items()
        }

    def speed(self) -> dict[str, dict[str, float]]:
        """Measures forward passes, and texts per second including tokenising."""
        first = self._folders[0]
        texts = ["--texts", first / "test.jsonl"]
        ours = [sys.executable, "-m", "benchmarks.exports.forward"]
        threads = len(os.sched_getaffinity(0))
        peer = [self._peers, PEERS / "forward.py", "--model", self._base, *texts, "--threads", threads]
        sides = {
            "export int8": [*ours, self.export(first, "int8"), *texts],
            "export float32": [*ours, self.export(first, "float32"), *texts],
            "bundle, Keras": [*ours, self.bundle(first), *texts, "--engine", "keras"],
            "PyTorch": peer,
        }
        best: dict[str, dict[str, float]] = {side: {} for side in sides}
        for _ in range(self._rounds):
            for side, command in sides.items():
                said, _, _ = self.run(command)
                for figure, value in said.items():
                    better = max if figure.endswith("_per_second") else min
                    best[side][figure] = better(value, best[side].get(figure, value))
        return best

    def slots(self) -> dict[str, dict[str, float]]:
        """Measures a graph with slots for adapters of five kinds against that of one adapter."""
        best: dict[str, dict[str, float]] = {}
        for _ in range(self._rounds):
            command = [sys.executable, "-m", "benchmarks.exports.slots", self.bundle(self._folders[0])]
            said, _, _ = self.run(command)
            for size, sides in said.items():
                least = best.setdefault(size, sides)
                best[size] = {side: min(value, least[side]) for side, value in sides.items()}
        return best

    def bundle(self, folder: Path) -> Path:
        """Returns the bundle of a data set; trains it with the defaults if it is missing."""
        bundle = self._work / folder.name
        if not bundle.is_dir():
            say(f"  training on {folder.name} …")
            self.run([*CLI, "train", folder / "train.jsonl", "--out", bundle, "--json"])
        return bundle

    def export(self, folder: Path, precision: str) -> Path:
        """Returns the export of a data set's bundle."""
        return self._work / f"{folder.name}-{precision}"

    def run(self, command: list[Any]) -> tuple[Any, float, float]:
        """Runs a process; returns what it printed as JSON, its seconds and its peak memory in MB."""
        environment = {"PYTHONPATH": str(ROOT)} if command[0] == sys.executable else None
        return measured(command, scratch=self._scratch, limit=LIMIT, environment=environment)


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exports",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="*", type=Path, metavar="FOLDER")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS))
    add("--rounds", type=int, default=3, help="number of rounds of the sides")
    add("--work", type=Path, default=ROOT / ".bench-export", help="folder for bundles and exports")
    add("--peers", type=Path, default=Path(".venv-peers/bin/python"), help="Python with the peers' packages")
    options = parser.parse_args()
    if not options.folders:
        options.folders = [ROOT / "benchmarks" / "data" / "sentiment_sentences"]
    options.folders = [folder.resolve() for folder in options.folders]
    options.work = options.work.absolute()
    # Not resolved, since Python finds its environment by the link.
    options.peers = options.peers.absolute()
    return options


def say(message: str) -> None:
    """Prints progress to stderr."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted. The parts that were measured are kept.")
