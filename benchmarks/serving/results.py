"""The results, stored in a JSON file after each scene, with a description of the machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.speed.results import Machine, OtherMachine, differences

# The figures of one side in one repetition, by name.
Figures = dict[str, Any]


class Results:
    """The scenes in a file.

    Args:
        path: The file, which may not exist yet; None stores nothing.
        machine: The machine of new measurements; None only reads.

    Attributes:
        machine: The machine of the measurements.
        scenes: A list of repetitions for each scene, each with the figures of every side.
        tried: The configurations of PyTorch that were tried, by side: flags, and requests per second.

    Raises:
        OtherMachine: If the file is from another machine, whose figures cannot be compared.
    """

    def __init__(self, path: Path | None, machine: Machine | None) -> None:
        self._path = path
        stored = json.loads(path.read_text()) if path is not None and path.is_file() else {}
        self.machine: Machine = machine or stored.get("machine", {})
        self.scenes: dict[str, list[dict[str, Figures]]] = stored.get("scenes", {})
        self.tried: dict[str, dict[str, float]] = stored.get("tried", {})
        if self.scenes and (changed := differences(stored["machine"], self.machine)):
            raise OtherMachine("\n  ".join([f"{path} was measured elsewhere:", *changed]))

    def add(self, scene: str, sides: dict[str, Figures]) -> None:
        """Adds a repetition of a scene and saves the file."""
        self.scenes.setdefault(scene, []).append(sides)
        self._write()

    def add_tried(self, side: str, tried: dict[str, float]) -> None:
        """Adds the configurations that were tried for a peer and saves the file."""
        self.tried[side] = tried
        self._write()

    def forget(self, scenes: Iterable[str]) -> None:
        """Drops scenes, so that they are measured again."""
        for scene in scenes:
            self.scenes.pop(scene, None)
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        # One repetition per line keeps diffs readable.
        scenes = ",\n    ".join(
            f"{json.dumps(name)}: [\n      " + ",\n      ".join(map(json.dumps, repetitions)) + "\n    ]"
            for name, repetitions in self.scenes.items()
        )
        machine, tried = (
            json.dumps(part, indent=2).replace("\n", "\n  ") for part in (self.machine, self.tried)
        )
        staging = self._path.with_suffix(".partial")
        staging.write_text(
            f'{{\n  "machine": {machine},\n  "tried": {tried},\n  "scenes": {{\n    {scenes}\n  }}\n}}\n'
        )
        staging.replace(self._path)
