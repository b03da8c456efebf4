"""Throughput of predictions into a folder of parts, by one and by two workers, here and on Ray.

    python -m benchmarks.sharded_prediction                        3 rounds with 12,000 rows
    python -m benchmarks.sharded_prediction --rows 50000 --store   more rows, and the results are stored

Each worker computes with one thread. The sides run one after another, in another order in each round. The rate leaves
out the first three parts for each worker, and with them the start of processes and of Ray; `seconds` is everything. All
runs must write the same labels. The results are stored in benchmarks/results/sharded_prediction.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .large_files import write
from .speed.results import describe_machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "sharded_prediction.json"
ROWS_PER_SHARD = 256
# Parts for each worker that the rate leaves out.
FIRST = 3
SIDES = (("machine", 1), ("machine", 2), ("ray", 1), ("ray", 2))


@dataclass(frozen=True)
class Side:
    """One run of a side.

    Attributes:
        on: Where its workers run.
        workers: Number of workers.
        rows_per_second: Rows per second without the first parts.
        seconds: Duration of everything in seconds.
    """

    on: str
    workers: int
    rows_per_second: float
    seconds: float


def bundle_in(work: Path) -> Path:
    """Trains a bundle on the sample conversations, with the defaults but for one epoch."""
    out = work / "bundle"
    command = [sys.executable, "-c", "from keras_peft.cli import main; main()", "train"]
    command += [str(ROOT / "examples" / "conversations.jsonl"), "--out", str(out), "--epochs", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


def run(bundle: Path, source: Path, out: Path, on: str, workers: int) -> tuple[Side, dict[str, int]]:
    """Predicts a file, and returns the side's run and how often each label was predicted."""
    from keras_peft.progress import Progress
    from keras_peft.sharding.run import predict_files

    class Times(Progress):
        """Remembers when rows were done."""

        def __init__(self) -> None:
            self.done: list[tuple[float, int]] = []

        def predicted(self, *, rows: int) -> None:
            self.done.append((time.perf_counter(), rows))

    times = Times()
    found = predict_files(
        bundle, source, out, on=on, workers=workers, rows_per_shard=ROWS_PER_SHARD, progress=times
    )
    return Side(on, workers, rate(times.done, workers), found.seconds), dict(sorted(found.labels.items()))


def rate(done: list[tuple[float, int]], workers: int) -> float:
    """Returns the rows per second without the first parts."""
    # In one process, rows are counted by batch, not by part.
    started, rows = 0, 0
    while rows < workers * FIRST * ROWS_PER_SHARD:
        rows += done[started][1]
        started += 1
    seconds = done[-1][0] - done[started - 1][0]
    return sum(count for _, count in done[started:]) / seconds


def reading(bundle: Path, source: Path) -> float:
    """Returns the rows per second that the process reads and packs which hands out the shards."""
    from keras_peft import bundle as bundles
    from keras_peft.progress import Progress
    from keras_peft.sharding.inputs import Reading, sources_of
    from keras_peft.sharding.parts import checksum_of
    from keras_peft.sharding.plan import PartSettings, make_plan

    described = bundles.describe(bundle)
    columns = described.columns[:-1]
    settings = PartSettings(
        checksum_of(described), None, columns, None, False, ROWS_PER_SHARD, ".jsonl", True
    )
    rows = Reading(columns, described.input, False, None)
    sources = sources_of(source)
    plan = make_plan(sources, rows, settings, Progress())
    began = time.perf_counter()
    for shard in plan.shards(sources, rows, frozenset(range(len(plan.parts())))):
        pickle.dumps(shard)
    return plan.rows / (time.perf_counter() - began)


def rounds(bundle: Path, source: Path, work: Path, count: int) -> Iterator[Side]:
    """Runs all sides in each round, each time in another order."""
    expected: dict[str, int] | None = None
    for number in range(count):
        for place in range(len(SIDES)):
            on, workers = SIDES[(place + number) % len(SIDES)]
            side, labels = run(bundle, source, work / f"{number}-{on}-{workers}", on, workers)
            if expected is not None and labels != expected:
                sys.exit(f"{on} with {workers} workers gives {labels}, expected {expected}.")
            expected = labels
            print(
                f"round {number + 1}, {on:>7}, {workers} workers: {side.rows_per_second:8.1f} rows/s, "
                f"{side.seconds:6.1f} s",
                flush=True,
            )
            yield side


def summary(sides: list[Side]) -> dict[str, Any]:
    """Returns the median rate of each side, and how much faster two workers are than one."""
    rates = {
        side: statistics.median(one.rows_per_second for one in sides if (one.on, one.workers) == side)
        for side in SIDES
    }
    return {
        "rows_per_second": {f"{on}, {workers}": rates[on, workers] for on, workers in SIDES},
        "two_workers": {on: rates[on, 2] / rates[on, 1] for on in ("machine", "ray")},
    }


def main() -> None:
    """Measures all sides, and prints and stores the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=12_000, help="number of rows")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--store", action="store_true", help="store the results")
    options = parser.parse_args()
    # One thread in each worker, also in the one that is this process.
    os.environ["OMP_NUM_THREADS"] = "1"
    from keras_peft import cluster

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["HOME"] = folder  # Ray writes its token there.
        bundle, source = bundle_in(work), work / "rows.jsonl"
        write(source, options.rows)
        read = reading(bundle, source)
        print(f"reading and packing: {read:,.0f} rows/s", flush=True)
        with cluster.joined("The benchmark", cores=2):
            sides = list(rounds(bundle, source, work, options.rounds))
    found = {"rows": options.rows, "rows_per_shard": ROWS_PER_SHARD, "reading": read, **summary(sides)}
    print(json.dumps(found, indent=1))
    if options.store:
        machine = describe_machine(Path("none"), ("keras-peft", "onnxruntime", "ray"))
        content = {"machine": machine, **found, "runs": [asdict(side) for side in sides]}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
