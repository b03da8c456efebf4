"""Runs a graph with many adapters, and the head of each in NumPy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.graph.acting import HEAD
from keras_peft.graph.names import ADAPTER, IDS, MASK, TOKEN_VECTORS, VECTORS
from keras_peft.runtime.onnx_session import Session, runtime_name
from keras_peft.runtime.onnx_slots import Slots

if TYPE_CHECKING:
    from keras_peft.core.head_task import HeadTask


class SharedSession:
    """A graph with slots for adapters. It is thread-safe.

    Args:
        model: File of the graph.
        shapes: The shapes of an adapter's tensors by the names of the graph's inputs.
        threads: Number of threads for each run; 0 for one per processor core.

    Attributes:
        name: Name and version of the runtime.
    """

    def __init__(self, model: Path, shapes: Mapping[str, tuple[int, ...]], *, threads: int = 0) -> None:
        self.name = runtime_name()
        self._session, self._slots = Session(model, threads=threads), Slots(shapes)
        self._adapters: dict[str, tuple[int, HeadTask, dict[str, np.ndarray]]] = {}

    def add(self, name: str, tensors: Mapping[str, np.ndarray], task: HeadTask) -> None:
        """Adds an adapter.

        Args:
            name: Its name.
            tensors: Its tensors by the names of the graph's inputs, and those of its head.
            task: The task of its head.
        """
        head = {key.removeprefix(HEAD): value for key, value in tensors.items() if key.startswith(HEAD)}
        slot = self._slots.add({key: value for key, value in tensors.items() if not key.startswith(HEAD)})
        self._adapters[name] = slot, task, head

    def run(self, inputs: Mapping[str, np.ndarray], adapters: Sequence[str]) -> list[np.ndarray]:
        """Computes the outputs of a batch.

        Args:
            inputs: `token_ids` and `padding_mask`, both (batch, length) int32.
            adapters: The name of the adapter of each row.

        Returns:
            The head's outputs of each row, (outputs,), or (length, outputs) for words.
        """
        feed = {
            IDS: inputs["token_ids"].astype(np.int64),
            MASK: inputs["padding_mask"].astype(np.int64),
            ADAPTER: np.array([self._adapters[name][0] for name in adapters], np.int64),
        }
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(adapters):
            rows[name].append(row)
        names = {name: TOKEN_VECTORS if self._adapters[name][1].per_word else VECTORS for name in rows}
        asked = sorted(set(names.values()))
        vectors = dict(zip(asked, self._session.run_all(asked, feed, self._slots.values()), strict=True))
        outputs = [np.empty(0, np.float32)] * len(adapters)
        for name, own in rows.items():
            _, task, head = self._adapters[name]
            found = vectors[names[name]][own]
            for row, output in zip(
                own, task.apply_head(found if task.per_word else found[:, None], head), strict=True
            ):
                outputs[row] = output
        return outputs


class OneOfMany:
    """Computes the outputs of one adapter; see `Run`.

    Args:
        session: The session of the graph.
        adapter: The name of the adapter.

    Attributes:
        name: Name and version of the runtime.
    """

    def __init__(self, session: SharedSession, adapter: str) -> None:
        self.name, self._session, self._adapter = session.name, session, adapter

    def __call__(self, inputs: Any, *, once: bool = False) -> np.ndarray:
        """Computes the outputs of a batch.

        Args:
            inputs: `token_ids` and `padding_mask`, both (batch, length) int32.
            once: Has no effect, since a graph is ready at once.
        """
        return np.stack(self._session.run(inputs, [self._adapter] * len(inputs["token_ids"])))
