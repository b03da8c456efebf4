"""Runs the cases of artifacts in worker processes, which it restarts when they end or take too long."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fuzz import case
from fuzz.artifact import Artifact
from fuzz.case import Outcome

ROOT = Path(__file__).parents[2]
# The seconds of the processor that a case may take, and those that it may be silent on a busy machine.
MOST_SECONDS = 20.0
SILENT_SECONDS = 240.0
# The seconds for the imports and the examples of a worker.
_START_SECONDS = 300.0
# The cases of a worker; then a new one starts with the memory of a new one.
_CASES = 500
_KEPT = 3


@dataclass
class Tally:
    """What the cases of an artifact did.

    Attributes:
        title: What the artifact is.
        counts: Number of cases by outcome.
        slowest: Seconds of the slowest case that was not killed.
        memory: The largest growth of memory in a case that was not killed, in MiB.
        failures: The first failures of each kind, with `count`.
    """

    title: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(case.OUTCOMES, 0))
    slowest: float = 0.0
    memory: float = 0.0
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """Number of cases."""
        return sum(self.counts.values())

    def add(self, outcome: Outcome) -> None:
        """Counts a case.

        Args:
            outcome: What it did.
        """
        self.counts[outcome.outcome] += 1
        if outcome.outcome != case.KILLED:
            self.slowest = max(self.slowest, outcome.seconds)
            self.memory = max(self.memory, outcome.mebibytes)
        if outcome.outcome in case.FAILURES:
            shown = asdict(outcome)
            kind = " ".join(case.kind_of(shown))
            known = self.failures.setdefault(
                kind,
                {
                    "error": outcome.error,
                    "place": outcome.place,
                    "message": outcome.message,
                    "cases": [],
                    "count": 0,
                },
            )
            known["count"] += 1
            if len(known["cases"]) < _KEPT:
                known["cases"].append({"number": outcome.number, "mutation": outcome.mutation})


def write(names: Sequence[str], work: Path) -> None:
    """Writes the examples of artifacts, each in a folder of its name.

    Args:
        names: Names of the artifacts.
        work: Folder to write to.
    """
    subprocess.run(_command("write", work, *names), check=True, env=_environment(work), cwd=ROOT)


def run(
    artifact: Artifact, name: str, *, seed: int, first: int, cases: int, until: float, work: Path
) -> Tally:
    """Runs cases of an artifact.

    Args:
        artifact: The artifact.
        name: Its name for `artifacts.find`.
        seed: Seed of all cases.
        first: Number of the first case.
        cases: Number of cases.
        until: The time of `time.monotonic` at which no further case starts.
        work: Folder with its examples.

    Returns:
        What they did.
    """
    tally, number, last = Tally(artifact.title), first, first + cases
    while number < last and time.monotonic() < until:
        count = min(_CASES, last - number)
        with _worker(_command("run", work, name, seed, number, count), work) as worker:
            for outcome in _outcomes(worker, artifact.name, until):
                tally.add(outcome)
                number = outcome.number + 1
    return tally


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fuzz.worker", *map(str, arguments)]


def _environment(work: Path) -> Mapping[str, str]:
    """An environment without network, without a graphics processor, and with a cache of its own."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, (ROOT / "src", ROOT / "tests", ROOT))]),
        "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "KERAS_PEFT_CACHE": str(work / "cache"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TOKENIZERS_PARALLELISM": "false",
        # Memory that a case frees is given back, so that the figures of the next are its own.
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "MALLOC_ARENA_MAX": "2",
    }


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    errors: Path

    def last_error(self) -> str:
        """The end of what it wrote to standard error."""
        return self.errors.read_text(encoding="utf-8", errors="replace").strip()[-2000:]


@contextmanager
def _worker(command: Sequence[str], work: Path) -> Iterator[_Worker]:
    with tempfile.TemporaryDirectory(dir=work) as folder:
        errors = Path(folder) / "errors"
        environment = {**_environment(work), "TMPDIR": folder}
        with errors.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=file, env=environment, cwd=ROOT
            )
        try:
            yield _Worker(process, errors)
        finally:
            process.kill()
            process.communicate()


def _outcomes(worker: _Worker, name: str, until: float) -> Iterator[Outcome]:
    """Reads what a worker reports, and reports the case in which it ends or hangs."""
    running: dict[str, Any] = {}
    last = None
    for line in _lines(worker.process):
        if "started" in line:
            running = line
            continue
        running, last = {}, line["number"]
        outcome = Outcome(**line)
        if outcome.seconds > MOST_SECONDS:
            outcome = replace(outcome, outcome=case.KILLED, error="time")
        yield outcome
        if time.monotonic() > until:
            return
    code = worker.process.poll()
    if running:
        why = "time" if code is None else _ending(code)
        place = "" if code is None else worker.last_error()
        yield Outcome(name, running["started"], running["mutation"], case.KILLED, why, message=place)
    elif code != 0:
        why = f"was silent after case {last}" if code is None else f"failed: {worker.last_error()}"
        raise SystemExit(f"The worker of {name} {why}")


def _lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Yields what a worker writes, until it ends or is silent for too long."""
    assert process.stdout is not None
    waiting, patience = b"", _START_SECONDS
    while True:
        ready, _, _ = select.select([process.stdout], [], [], patience)
        if not ready:
            return
        new = os.read(process.stdout.fileno(), 1 << 16)
        if not new:
            process.wait()
            return
        patience = SILENT_SECONDS
        *lines, waiting = (waiting + new).split(b"\n")
        yield from map(json.loads, lines)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
