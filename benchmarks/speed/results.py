"""The measured runs, stored in a JSON file after each run, with a description of the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from .plan import Run, Setting
from .sides import Measured

Machine = dict[str, Any]

OWN_PACKAGES = ("keras-peft", "keras", "keras-hub", "tensorflow")
PEER_PACKAGES = ("torch", "transformers", "peft")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class OtherMachine(Exception):
    """The file contains runs from another machine, or with other versions."""


class Results:
    """The runs in a file.

    Args:
        path: The file, which may not exist yet; None stores nothing.
        machine: The machine of new runs; None only reads.

    Raises:
        OtherMachine: If the file is from another machine, whose times cannot be compared.
    """

    def __init__(self, path: Path | None, machine: Machine | None) -> None:
        self._path = path
        self.runs: dict[Run, Measured] = {}
        stored = json.loads(path.read_text()) if path is not None and path.is_file() else None
        self.machine = machine or (stored["machine"] if stored else {})
        if stored is None:
            return
        changed = differences(stored["machine"], self.machine)
        if changed and stored["runs"]:
            raise OtherMachine("\n  ".join([f"{path} was measured elsewhere:", *changed]))
        if stored["runs"]:
            self.machine["versions"] = stored["machine"]["versions"] | self.machine["versions"]
        for entry in stored["runs"]:
            run = Run(Setting(**entry["setting"]), entry["side"], entry["repetition"])
            self.runs[run] = Measured(**entry["measured"])

    def add(self, run: Run, measured: Measured) -> None:
        """Adds a run and saves the file."""
        self.runs[run] = measured
        self._write()

    def forget(self, runs: Iterable[Run]) -> None:
        """Drops runs, so that they are measured again."""
        for run in runs:
            self.runs.pop(run, None)
        self._write()

    def of(self, setting: Setting, side: str) -> dict[int, Measured]:
        """Returns the runs of a side, by repetition."""
        return {
            run.repetition: measured
            for run, measured in self.runs.items()
            if run.setting == setting and run.side == side
        }

    def _write(self) -> None:
        if self._path is None:
            return
        runs = [
            {
                "setting": asdict(run.setting),
                "side": run.side,
                "repetition": run.repetition,
                "measured": asdict(measured),
            }
            for run, measured in self.runs.items()
        ]
        # One run per line keeps diffs readable.
        lines = ",\n    ".join(json.dumps(run) for run in runs)
        machine = json.dumps(self.machine, indent=2).replace("\n", "\n  ")
        self._path.parent.mkdir(exist_ok=True)
        staging = self._path.with_suffix(".partial")
        staging.write_text(f'{{\n  "machine": {machine},\n  "runs": [\n    {lines}\n  ]\n}}\n')
        staging.replace(self._path)


def differences(there: Machine, here: Machine) -> list[str]:
    """Lists the differences between two machines except the date, since runs may continue on another day."""
    versions = "versions"
    # A package that is missing on either machine was not measured there.
    both = there[versions].keys() & here[versions].keys()
    pairs = [(name, there[versions][name], here[versions][name]) for name in sorted(both)]
    pairs += [(name, there.get(name), here[name]) for name in here if name not in ("date", versions)]
    return [f"{name}: {other} there, {own} here" for name, other, own in pairs if other != own]


def describe_machine(peers: Path, own: Iterable[str] = OWN_PACKAGES) -> Machine:
    """Describes the machine: processor, cores, memory, versions and the date.

    Args:
        peers: Python with the peers' packages.
        own: The packages of this Python whose versions matter.
    """
    model, flags = platform.processor() or platform.machine(), ()
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        fields = dict(
            (part.strip() for part in line.split(":", 1))
            for line in cpu.read_text().partition("\n\n")[0].splitlines()
            if ":" in line
        )
        model, flags = fields.get("model name", model), fields.get("flags", "").split()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model,
        **{flag: flag in flags for flag in _FLAGS},
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {
            **{name: importlib.metadata.version(name) for name in own},
            **_peer_versions(peers),
        },
        "date": date.today().isoformat(),
    }


def _peer_versions(peers: Path) -> dict[str, str]:
    """Returns the versions in the peers' Python, which may not exist."""
    ask = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    try:
        answer = subprocess.run(
            [peers, "-c", ask, *PEER_PACKAGES], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return json.loads(answer.stdout)
