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
    run: Callable[..., Rows], file: str, *, parts: Sequence[str] | None = None, least: float = 0.0
) -> None:
    """Runs both directions, stores the differences if requested, and fails if one is too large.

    Args:
        run: Takes a working folder, the other Python and, if `parts` is given, the parts to
            compare; returns rows. It writes a versions.json of the other library to the folder.
        file: The file that stores the differences for `docs/benchmarks/exchange.md`.
        parts: The choices of `--only`.
        least: The minimum of the largest logit that differences are relative to.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", required=True, help="the Python that has the other library")
    parser.add_argument("--store", action="store_true", help="keep the differences for the docs")
    if parts is not None:
        parser.add_argument("--only", nargs="*", choices=parts, default=list(parts), help="all by default")
    arguments = parser.parse_args()
    _run_without_tracing()
    with tempfile.TemporaryDirectory() as folder:
        chosen = () if parts is None else (arguments.only,)
        rows = run(Path(folder), arguments.peers, *chosen)
        versions = json.loads((Path(folder) / "versions.json").read_text())
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
