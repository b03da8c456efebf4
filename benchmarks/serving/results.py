"""What was measured, kept in a JSON file after each scene, with the machine that it was measured on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.speed.results import Machine, OtherMachine, differences

# Of one side in one repetition: figures by their names.
Figures = dict[str, Any]


class Results:
    """The scenes in a file.

    Args:
        path: The file, which need not be there; None keeps nothing.
        machine: Where new scenes are measured; None only reads.

    Attributes:
        machine: Where it was measured.
        scenes: By the names of the scenes a list of repetitions, each with the figures of every side.
        tried: What PyTorch was tried with, by the sides: flags, and requests a second.

    Raises:
        OtherMachine: If the file was measured elsewhere: such figures cannot be compared.
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
        """Keeps a repetition of a scene, in the file too."""
        self.scenes.setdefault(scene, []).append(sides)
        self._write()

    def add_tried(self, side: str, tried: dict[str, float]) -> None:
        """Keeps what a peer was tried with, in the file too."""
        self.tried[side] = tried
        self._write()

    def forget(self, scenes: Iterable[str]) -> None:
        """Drops scenes, to be measured anew."""
        for scene in scenes:
            self.scenes.pop(scene, None)
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        # A repetition in each line, so that changes can be read.
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
