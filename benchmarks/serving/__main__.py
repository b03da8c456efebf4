"""Compares the server with servers on PyTorch: throughput, latency, loading, memory.

    python -m benchmarks.serving                      everything
    python -m benchmarks.serving --only loras mixed   some scenes
    python -m benchmarks.serving --quick              a moment of each scene, nothing is written

The adapters are trained on the first run and kept. The sides of a scene take turns; their servers keep
running, and the load comes from another process on the same cores, the same for all. Each repetition is
stored in benchmarks/results/serving.json as soon as it is measured; `make docs` writes it into
docs/benchmarks/serving.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.speed.results import OWN_PACKAGES, OtherMachine, describe_machine

from . import tables
from .plan import BY_NAME
from .results import Results
from .scenes import SCENES
from .servers import ROOT, ServerFailed
from .stage import Stage

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
PACKAGES = (*OWN_PACKAGES, "fastapi", "uvicorn")


def main() -> None:
    """Runs the missing measurements and prints the tables."""
    options = parse()
    prepare(options.work, options.data)
    machine = describe_machine(options.peers, PACKAGES)
    try:
        results = Results(None if options.quick else RESULTS, machine)
    except OtherMachine as error:
        sys.exit(f"{error}\nRemove that file to measure everything here.")
    if options.fresh:
        results.forget(options.only)
    if (load := os.getloadavg()[0]) > 0.5:
        say(f"Something else is running here (load {load:.1f}): the figures will be too low.")
    failed = 0
    with Stage(options.work, options.data, options.peers, results, seconds=options.seconds) as stage:
        for name in options.only:
            done = len(results.scenes.get(name, []))
            for repetition in range(done, options.repetitions):
                say(f"{BY_NAME[name].title}, {repetition + 1} …")
                try:
                    results.add(name, SCENES[name](stage, repetition))
                except (ServerFailed, OSError) as error:
                    failed += 1
                    say(f"{name} failed: {error}")
                    break
    print(f"{tables.machine(results.machine)}\n\n{tables.summary(results)}\n\n{tables.sections(results)}")
    sys.exit(1 if failed else 0)


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=list(SCENES), default=list(SCENES), help="the scenes to measure")
    add("--repetitions", type=int, default=5)
    add("--seconds", type=float, default=10.0, help="how long a side is measured at a time")
    add("--data", type=Path, default=ROOT / "benchmarks" / "data" / "sentiment_sentences", metavar="FOLDER")
    add("--work", type=Path, default=ROOT / ".bench-serve", metavar="FOLDER", help="bundles and logs")
    add("--peers", type=Path, default=Path(".venv-peers/bin/python"), help="Python with the peers' packages")
    add("--fresh", action="store_true", help="measure the scenes again")
    add("--quick", action="store_true", help="three seconds of each side, once; nothing is written")
    options = parser.parse_args()
    if options.quick:
        options.repetitions, options.seconds = 1, 3.0
    # Not resolved, since Python finds its environment by the link.
    options.peers = options.peers.absolute()
    options.work = options.work.absolute()
    return options


def prepare(work: Path, data: Path) -> None:
    """Writes missing bundles in a separate process, which frees its memory at the end."""
    if (work / "labels.json").is_file():
        return
    say("Training the adapters that are served …")
    with tempfile.TemporaryFile() as said:
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.serving.bundles", work, "--data", data],
            cwd=ROOT,
            stdout=said,
            stderr=said,
        )
        said.seek(0)
        if ended.returncode:
            sys.exit(f"They could not be made:\n{said.read().decode(errors='replace')[-2000:]}")


def say(message: str) -> None:
    """Prints progress to stderr."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted. What was measured is kept, and the same command goes on from there.")
