"""A process that runs cases of one artifact, with limited memory.

    python -m fuzz.worker write FOLDER NAME...
    python -m fuzz.worker run FOLDER NAME SEED FIRST COUNT

The examples of each artifact are in a folder of its name. `run` prints a line of JSON before and after each case. The
caller kills it if a case takes too long.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TextIO

from fuzz import artifacts, case, limits
from fuzz.artifact import Artifact


def main(arguments: list[str]) -> None:
    """Runs what the arguments ask for."""
    what, folder, *names = arguments
    if what == "write":
        for artifact in map(artifacts.find, names):
            own = Path(folder) / artifact.name
            own.mkdir()
            artifact.write(own)
        return
    name, seed, first, count = names
    artifact = artifacts.find(name)
    run(artifact, Path(folder) / artifact.name, int(seed), range(int(first), int(first) + int(count)))


def run(artifact: Artifact, originals: Path, seed: int, numbers: range) -> None:
    """Runs cases.

    Args:
        artifact: The artifact.
        originals: Folder with its examples.
        seed: Seed of all cases.
        numbers: Numbers of the cases.
    """
    out = _private_output()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        case.original(artifact, min(originals.iterdir()))  # imports everything, before memory is limited
        limits.limit_memory()
        for number in numbers:
            prepared = case.prepare(artifact, number, seed, originals, Path(folder) / "case")
            _say(out, {"started": number, "mutation": prepared.mutation})
            before = limits.memory("VmRSS")
            limits.forget_peak()
            outcome = case.read(prepared)
            grown = max(0.0, limits.memory("VmHWM") - before)
            if grown > limits.MOST_MIB and outcome.outcome != case.KILLED:
                outcome = replace(outcome, outcome=case.KILLED, error="memory")
            _say(out, asdict(replace(outcome, mebibytes=grown)))


def _private_output() -> TextIO:
    """Returns standard output; what libraries print goes to standard error."""
    mine = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return mine


def _say(out: TextIO, content: dict[str, object]) -> None:
    out.write(json.dumps(content) + "\n")
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
