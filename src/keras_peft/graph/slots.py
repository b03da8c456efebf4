"""Effects whose tensors are inputs of the graph, with a slot for each of many adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.graph.effects import Piece, tensors_of
from keras_peft.graph.writer import FLOAT

if TYPE_CHECKING:
    from keras_peft.core.effects import Effect
    from keras_peft.graph.writer import GraphWriter

FACTORS = ("input_scale", "output_scale")
"""Stored as their distance from 1, so that a slot of zeros leaves the base unchanged."""


@dataclass(frozen=True)
class Layout:
    """Where adapters act, with which effects of which sizes. Rows of adapters of one layout share a graph.

    Attributes:
        effects: The effects by the path of their layer; of their arrays, only the shapes matter.
        key: The same as a value that can be compared.
    """

    effects: Mapping[str, Sequence[Effect]]
    key: tuple[Any, ...]

    @classmethod
    def of(cls, effects: Mapping[str, Sequence[Effect]]) -> Layout:
        """Returns the layout of an adapter.

        Args:
            effects: Its effects by the path of their layer.
        """
        own = {path: tuple(some) for path, some in sorted(effects.items()) if some}
        return cls(own, tuple((path, tuple(map(_described, some))) for path, some in own.items()))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of an adapter's tensors by the names of the graph's inputs."""
        return {name: value.shape for name, value in slot_tensors(self.effects).items()}


def slot_tensors(
    effects: Mapping[str, Sequence[Effect]], *, are_zero: Mapping[str, Sequence[Effect]] | None = None
) -> dict[str, np.ndarray]:
    """Returns the tensors of an adapter by the names of the graph's inputs, float32.

    Vectors have the shape (1, dim), with which they broadcast over the tokens of a row.

    Args:
        effects: Its effects by the path of their layer.
        are_zero: Effects that the adapter lacks: their tensors are zero.
    """
    lacking = {id(one) for some in (are_zero or {}).values() for one in some}
    return {
        f"{path}/{number}/{name}": value - 1 if name in FACTORS and id(effect) not in lacking else value
        for path, some in effects.items()
        for number, effect in enumerate(some)
        for name, value in _tensors(effect).items()
    }


def slot_pieces(graph: GraphWriter, layout: Layout, adapter: str) -> dict[str, list[Piece]]:
    """Declares the inputs of a layout, and returns the effects that read them.

    Args:
        graph: Writes the graph.
        layout: The layout.
        adapter: Name of the slot of each row, (batch,) int64.

    Returns:
        The effects by the path of their layer.
    """
    return {
        path: [
            Piece(one, Slots(graph, f"{path}/{number}", _shapes(one), adapter))
            for number, one in enumerate(some)
        ]
        for path, some in layout.effects.items()
    }


class Slots:
    """The tensors of one effect for many adapters, of which each row of a batch reads one; see `Parameters`.

    Args:
        graph: Writes the graph.
        prefix: Prefix of the names of the inputs.
        shapes: The shapes of an adapter's tensors by name.
        adapter: Name of the slot of each row, (batch,) int64.
    """

    def __init__(
        self, graph: GraphWriter, prefix: str, shapes: Mapping[str, tuple[int, ...]], adapter: str
    ) -> None:
        self._graph, self._prefix, self._adapter, self._shapes = graph, prefix, adapter, shapes
        self._read: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def vector(self, name: str) -> str:
        """Writes a vector per row; see `Parameters.vector`."""
        return self._rows(name)

    def factor(self, name: str) -> str:
        """Writes a vector of factors per row; see `Parameters.factor`."""
        return self._graph.add("Add", self.vector(name), self._graph.constant(np.float32(1)))

    def matrix(self, name: str) -> str:
        """Writes a matrix per row; see `Parameters.matrix`."""
        return self._rows(name)

    def rows(self, name: str, x: str) -> str:
        """Writes rows per row of the batch; see `Parameters.rows`."""
        return self._rows(name)

    def _rows(self, name: str) -> str:
        if name not in self._read:
            own = f"{self._prefix}/{name}"
            shape = self._shapes[name]
            slots = self._graph.input(own, FLOAT, ("slots", *shape), np.zeros((1, *shape), np.float32))
            self._read[name] = self._graph.add("Gather", slots, self._adapter)
        return self._read[name]


def _tensors(effect: Effect) -> dict[str, np.ndarray]:
    return {name: value[None] if value.ndim == 1 else value for name, value in tensors_of(effect).items()}


def _shapes(effect: Effect) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in _tensors(effect).items()}


def _described(effect: Effect) -> tuple[Any, ...]:
    """Returns the type, the shapes and the settings of an effect."""
    values = []
    for one in fields(effect):
        value = getattr(effect, one.name)
        if one.name != "scaling":  # It is part of a matrix.
            values.append((one.name, value.shape if isinstance(value, np.ndarray) else value))
    return (type(effect).__name__, *values)
