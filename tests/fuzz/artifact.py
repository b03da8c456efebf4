"""The interface of an artifact, and what its mutations are checked for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np

from fuzz.mutations import Mutation

# Exported graphs and Keras compute in 32 bits.
_TOLERANCE = 1e-5


class Wrong(Exception):
    """An artifact was accepted although what it gives cannot be used."""


@dataclass(frozen=True)
class Content:
    """What an artifact gives when it is read.

    Attributes:
        words: Labels, texts and names.
        numbers: Probabilities and other outputs.
    """

    words: tuple[str, ...] = ()
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, *values: Any) -> Content:
        """Collects the texts and numbers of nested values.

        Raises:
            Wrong: If a number is not finite.
        """
        words: list[str] = []
        numbers: list[np.ndarray] = []
        for value in _flat(values):
            if isinstance(value, np.ndarray) or (
                isinstance(value, int | float) and not isinstance(value, bool)
            ):
                numbers.append(np.asarray(value, np.float64).ravel())
            else:
                words.append(str(value))
        flat = np.concatenate([np.zeros(0), *numbers])
        if not np.isfinite(flat).all():
            raise Wrong("outputs are not finite")
        return cls(tuple(words), flat)

    def equals(self, other: Content) -> bool:
        """Returns whether both are the same, up to rounding."""
        return (
            self.words == other.words
            and self.numbers.shape == other.numbers.shape
            and np.allclose(self.numbers, other.numbers, rtol=_TOLERANCE, atol=_TOLERANCE)
        )


class Artifact(ABC):
    """A file or folder that a stranger can send.

    Attributes:
        name: Its name in the results.
        title: What it is, for the table.
        needs_keras: Whether Keras reads it, which takes longer.
    """

    name: str
    title: str
    needs_keras: ClassVar[bool] = False

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Writes valid examples, each in a subfolder or as a file.

        Args:
            folder: An empty folder.
        """

    @abstractmethod
    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        """Returns the mutations of each file, by patterns of its path in an example; the first match counts."""

    @abstractmethod
    def read(self, path: Path) -> Content:
        """Reads an example with a public function, and uses it.

        Args:
            path: The example.
        """

    def seal(self, path: Path) -> None:
        """Writes correct checksums, as an attacker would; only where `is_sealed`.

        Args:
            path: The example.
        """
        raise NotImplementedError

    is_sealed: ClassVar[bool] = False
    """Whether checksums protect the files: a mutation that leaves them wrong must be refused."""

    def mutate(self, random: Random, path: Path) -> str:
        """Mutates one file of an example, and returns what was done.

        Args:
            random: Random generator.
            path: The example.
        """
        kinds = self.mutations()
        paths = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        chosen: dict[Path, Sequence[Mutation]] = {}
        for one in paths:
            shown = one.relative_to(path).as_posix() if path.is_dir() else one.name
            if found := next((own for pattern, own in kinds.items() if fnmatch(shown, pattern)), None):
                chosen[one] = found
        file = random.choice(list(chosen))
        if path.is_dir() and random.random() < 0.01:
            return _misplace(random, file)
        content, names = file.read_bytes(), []
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            mutation = random.choice(chosen[file])
            content = mutation(random, content)
            names.append(mutation.__name__)
        file.write_bytes(content)
        return f"{file.relative_to(path).as_posix() if path.is_dir() else file.name}: {', '.join(names)}"


def _misplace(random: Random, file: Path) -> str:
    """Removes a file, or puts something else in its place."""
    kind = random.choice(("removed", "a folder", "a link to itself", "a link to a file of the system"))
    file.unlink()
    if kind == "a folder":
        file.mkdir()
    elif kind == "a link to itself":
        file.symlink_to(file.name)
    elif kind != "removed":
        file.symlink_to("/etc/hostname")
    return f"{file.name}: {kind}"


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, Mapping):
            yield from _flat(value.keys())
            yield from _flat(value.values())
        elif isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def check_probabilities(predictions: Iterable[Any]) -> None:
    """Checks that the probabilities of predictions are between 0 and 1.

    Raises:
        Wrong: If one is not.
    """
    for prediction in predictions:
        for value in (getattr(prediction, "probabilities", None) or {}).values():
            if not (math.isfinite(value) and -1e-6 <= value <= 1 + 1e-6):
                raise Wrong(f"a probability is {value}")
