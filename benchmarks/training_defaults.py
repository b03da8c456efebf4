"""Measures the command line's defaults: trains and evaluates over data sets and seeds.

    python benchmarks/training_defaults.py FOLDER... [--seeds 0 1 2] [-- FLAGS OF train]

Each FOLDER contains train.jsonl and test.jsonl. Each run is a process of its own, with
`keras-peft train` on the former and `keras-peft evaluate` on the latter. Prints a
Markdown table: means over the seeds, with the minimum and maximum.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = [sys.executable, "-c", "from keras_peft.cli import main; main()"]


def run(*arguments: str) -> dict:
    """Runs a command with --json and returns its output."""
    result = subprocess.run([*COMMAND, *arguments, "--json"], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout)


def spread(values: list[float], digits: int = 4) -> str:
    """Formats a mean with the minimum and maximum."""
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main() -> None:
    """Prints the table, each row as soon as it is measured."""
    own, flags = sys.argv[1:], []
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args(own)
    print("| data | flags | epochs | test accuracy | test macro-F1 | training seconds | whole process |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for folder in options.folders:
        trained, scored = [], []
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                out = str(Path(scratch) / "bundle")
                train = ["train", str(folder / "train.jsonl"), "--out", out, "--seed", str(seed), *flags]
                trained.append(run(*train))
                scored.append(run("evaluate", out, str(folder / "test.jsonl")))
        cells = [
            folder.name,
            " ".join(flags) or "none",
            str(trained[0]["epochs"]),
            spread([scores["accuracy"] for scores in scored]),
            spread([scores["macro_f1"] for scores in scored]),
            spread([report["seconds"]["train"] for report in trained], 0),
            spread([report["seconds"]["total"] for report in trained], 0),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
