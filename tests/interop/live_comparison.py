"""Shared code of the live comparisons with other libraries: command line, other Python, and verdict."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from conftest import REFERENCE

TOLERANCE = 1e-5
"""Largest allowed difference: of logits relative to the largest logit, of probabilities absolute."""
_RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results"

Rows = list[dict[str, Any]]


def run_there(peers: str, script: str, verb: str, work: Path) -> None:
    """Runs a script of this folder with the other library's Python."""
    command = [peers, "-W", "ignore", str(Path(__file__).parent / script), verb, str(work)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(REFERENCE)})


def main(
    run: Callable[[Path, str, Sequence[str]], Rows],
    file: str,
    *,
    cases: Sequence[str],
    sample: Sequence[str],
    least: float = 0.0,
) -> None:
    """Compares both directions, stores the differences if asked, and fails if one is too large.

    Args:
        run: Maps a working folder, the other Python and the cases to compare to rows. The other side
            reads the cases from cases.json in the folder, and writes versions.json there.
        file: Name of the file with the stored differences.
        cases: Names of all cases.
        sample: Names of those that `--sample` compares.
        least: Lower bound of the largest logit that a difference is divided by.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", required=True, help="the Python that has the other library")
    parser.add_argument("--sample", action="store_true", help="compare a case of each kind")
    parser.add_argument(
        "--only", nargs="*", default=[""], help="compare the cases whose names contain a word"
    )
    parser.add_argument("--store", action="store_true", help="store the differences for the docs")
    arguments = parser.parse_args()
    offered = sample if arguments.sample else cases
    chosen = [case for case in offered if any(word in case for word in arguments.only)]
    if not chosen:
        words = " ".join(arguments.only)
        parser.error(f"--only {words}: no case has such a name; the cases are {list(offered)}")
    _run_without_tracing()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cases.json").write_text(json.dumps(chosen))
        rows = run(Path(folder), arguments.peers, chosen)
        versions = json.loads((Path(folder) / "versions.json").read_text())
    if sum(row["direction"] == "here to there" for row in rows) < len(chosen):
        sys.exit(f"{len(chosen)} cases were to be compared, but only these were: {rows}")
    if arguments.store:
        content = {"versions": {**versions, "keras": keras.__version__}, "rows": rows}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (_RESULTS / file).write_text(f"{text}\n", encoding="utf-8")
    wide = [
        row
        for row in rows
        if not row["difference"] <= TOLERANCE * max(least, row["largest_logit"])
        or not row.get("scores", 0) <= TOLERANCE
    ]
    if wide:
        sys.exit(f"{len(wide)} differ by too much: {wide}")


def _run_without_tracing() -> None:
    """Runs TensorFlow eagerly: tracing takes most of the time of trainings of a few small steps."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions_eagerly`")
        tf.config.run_functions_eagerly(True)
