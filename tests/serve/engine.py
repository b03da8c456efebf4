"""Test engines: one that computes sums, and one with a replaceable `run`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_peft import tasks
from keras_peft.bundle import Bundle
from keras_peft.serve.bundle_files import read_tensors
from keras_peft.serve.engines._engine import Base, Engine
from keras_peft.serve.loaded_adapter import AdapterRow, LoadedAdapter


@dataclass(frozen=True)
class Identity:
    """The metadata of a base, without the model."""

    name: str = "tiny"
    architecture: str = "distilbert"
    sha256: str = "ab" * 32
    max_length: int = 128
    tokenizer: str = "{}"
    vocabulary: int | None = None


@dataclass(frozen=True, eq=False)
class Tensors:
    """The unchanged tensors of a bundle."""

    of: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(value.nbytes for value in self.of.values())


class Sums(Engine):
    """Returns sums for a row: of its ids and of its adapter's tensors."""

    workers = 1

    def __init__(self, base: Base | None = None) -> None:
        self._base = base or Identity()

    @property
    def base(self) -> Base:
        return self._base

    def load(self, bundle: Bundle) -> Tensors:
        return Tensors(read_tensors(bundle))

    def group(self, row: AdapterRow) -> Hashable:
        return None

    def run(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        return [self.answer(row) for row in rows]

    @staticmethod
    def answer(row: AdapterRow) -> np.ndarray:
        tensors = sum(float(value.sum()) for value in row.adapter.weights.of.values())
        task = row.adapter.task
        one = (row.ids.sum() + tensors) * np.arange(1, task.outputs + 1)
        return (np.tile(one, (len(row.ids), 1)) if task.per_word else one).astype(np.float32)


class Wrapped(Engine):
    """Wraps another engine; a test can replace its `run`."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.run = engine, engine.run

    @property
    def base(self) -> Base:
        return self.engine.base

    @property
    def workers(self) -> int:
        return self.engine.workers

    def load(self, bundle: Bundle) -> Any:
        return self.engine.load(bundle)

    def group(self, row: AdapterRow) -> Hashable:
        return self.engine.group(row)

    run: Any


def loaded(name: str, task: tasks.Task | None = None, *, folder: Path = Path("/nowhere")) -> LoadedAdapter:
    """A loaded adapter without a bundle on disk."""
    task = task or tasks.find("single-label")(("alpha", "beta"))
    return LoadedAdapter(name, 1, bundle(name, task, folder=folder), task, None, Tensors())


def bundle(name: str, task: tasks.Task, *, folder: Path = Path("/nowhere")) -> Bundle:
    """A bundle that has only its bundle.json content."""
    content = {
        "task": task.name,
        "task_options": task.to_config(),
        "labels": list(task.labels),
        "columns": [*task.input.columns, task.label_column],
        "max_length": 64,
        "long_text": "cut",
        "parts": [{"method": {"name": "lora", "rank": 8}, "selection": {}}],
        "metrics": {"accuracy": 0.5},
        "files": {"adapter.safetensors": "cd" * 32},
    }
    return Bundle(folder / name, content)
