"""The tensors of many adapters, stacked for a graph that reads one of them for each row."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

_FIRST_SLOTS = 4


class Slots:
    """Stacked tensors of adapters of one layout. It is thread-safe.

    Args:
        shapes: The shapes of an adapter's tensors by name.

    Attributes:
        bytes_each: Memory of one adapter, in bytes.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = dict(shapes)
        self.bytes_each = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
        self._stacked = {name: np.zeros((_FIRST_SLOTS, *shape), np.float32) for name, shape in shapes.items()}
        self._free = list(reversed(range(_FIRST_SLOTS)))
        self._slots = _FIRST_SLOTS
        self._values: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def add(self, tensors: Mapping[str, np.ndarray]) -> int:
        """Stores the tensors of an adapter.

        Args:
            tensors: The tensors by name.

        Returns:
            The number of their slot.
        """
        with self._lock:
            if not self._free:
                self._grow()
            slot = self._free.pop()
            for name, stacked in self._stacked.items():
                stacked[slot] = tensors[name]
        return slot

    def remove(self, slot: int) -> None:
        """Frees a slot, after the last run that read it.

        Args:
            slot: The number of the slot.
        """
        # Without the lock: the garbage collector may call this in a thread that holds it.
        self._free.append(slot)

    def values(self) -> dict[str, Any]:
        """Returns the stacked tensors as values of ONNX Runtime, by name. They are not copied."""
        import onnxruntime

        with self._lock:
            if self._values is None:
                self._values = {
                    name: onnxruntime.OrtValue.ortvalue_from_numpy(stacked)
                    for name, stacked in self._stacked.items()
                }
            return self._values

    def _grow(self) -> None:
        """Doubles the number of slots. Runs that go on read the arrays from before."""
        more = {name: np.zeros_like(stacked) for name, stacked in self._stacked.items()}
        self._stacked = {
            name: np.concatenate([stacked, more[name]]) for name, stacked in self._stacked.items()
        }
        self._free.extend(reversed(range(self._slots, 2 * self._slots)))
        self._slots *= 2
        self._values = None
