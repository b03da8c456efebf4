"""Effects whose tensors are inputs of the graph, with a slot for each of many adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from keras_peft.graph.effects import Piece, tensors_of
from keras_peft.graph.writer import FLOAT

if TYPE_CHECKING:
    from keras_peft.core.effects import Effect
    from keras_peft.graph.writer import GraphWriter

FACTORS = ("input_scale", "output_scale")
"""Tensors that are 1 for adapters without this effect; others are 0."""
_VECTORS = "adapter_vectors"
T = TypeVar("T")


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
    effects: Mapping[str, Sequence[Effect]], *, lacks: Mapping[str, Sequence[Effect]] | None = None
) -> dict[str, np.ndarray]:
    """Returns the tensors of an adapter by the names of the graph's inputs, float32.

    The vectors of all layers are one tensor, (1, sum of their sizes), because reading many small ones takes longer.

    Args:
        effects: Its effects by the path of their layer.
        lacks: Effects of zeros that stand for those that the adapter lacks.
    """
    lacking = {id(one) for some in (lacks or {}).values() for one in some}
    tensors = {
        f"{path}/{number}/{name}": np.ones_like(value) if name in FACTORS and id(effect) in lacking else value
        for path, some in effects.items()
        for number, effect in enumerate(some)
        for name, value in tensors_of(effect).items()
    }
    vectors = {name: value for name, value in tensors.items() if value.ndim == 1}
    others = {name: value for name, value in tensors.items() if name not in vectors}
    if not vectors:
        return others
    return {_VECTORS: np.concatenate([vectors[name] for name in sorted(vectors)])[None], **others}


def slot_pieces(
    graph: GraphWriter,
    effects: Mapping[str, Sequence[Effect]],
    adapter: str,
    more: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, list[Piece]]:
    """Declares the inputs of effects, and returns the effects that read them.

    Args:
        graph: Writes the graph.
        effects: The effects by the path of their layer; of their arrays, only the shapes matter.
        adapter: Name of the slot of each row, (batch,) int64.
        more: The shapes of further tensors by the names of their inputs.

    Returns:
        The effects by the path of their layer.
    """
    vectors = _write_vectors(graph, effects, adapter)

    def own(prefix: str, effect: Effect) -> Slots:
        shapes = {name: value.shape for name, value in tensors_of(effect).items() if value.ndim > 1}
        shapes |= _below(prefix, more or {})
        return Slots(graph, prefix, shapes, adapter, _below(prefix, vectors))

    return {
        path: [Piece(one, own(f"{path}/{number}", one)) for number, one in enumerate(some)]
        for path, some in effects.items()
    }


class Slots:
    """The tensors of one effect for many adapters, of which each row of a batch reads one; see `Parameters`.

    Args:
        graph: Writes the graph.
        prefix: Prefix of the names of the inputs.
        shapes: The shapes of an adapter's tensors by name, without those of vectors.
        adapter: Name of the slot of each row, (batch,) int64.
        vectors: Names of the vectors of each row, (batch, 1, size), which are already written, by name.
    """

    def __init__(
        self,
        graph: GraphWriter,
        prefix: str,
        shapes: Mapping[str, tuple[int, ...]],
        adapter: str,
        vectors: Mapping[str, str] | None = None,
    ) -> None:
        self._graph, self._prefix, self._adapter, self._shapes = graph, prefix, adapter, shapes
        self._written = dict(vectors or {})

    def __contains__(self, name: str) -> bool:
        return name in self._shapes or name in self._written

    def vector(self, name: str) -> str:
        """Returns a vector per row; see `Parameters.vector`."""
        return self._written[name]

    def matrix(self, name: str) -> str:
        """Writes a matrix per row; see `Parameters.matrix`."""
        if name not in self._written:
            shape = self._shapes[name]
            own = self._graph.input(
                f"{self._prefix}/{name}", FLOAT, ("slots", *shape), np.zeros((1, *shape), np.float32)
            )
            self._written[name] = self._graph.add("Gather", own, self._adapter)
        return self._written[name]

    def rows(self, name: str, x: str) -> str:
        """Writes rows per row of the batch; see `Parameters.rows`."""
        return self.matrix(name)


def _below(prefix: str, values: Mapping[str, T]) -> dict[str, T]:
    """Returns the values whose names begin with a prefix, by the rest of their names."""
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in values.items()
        if name.startswith(f"{prefix}/")
    }


def _write_vectors(
    graph: GraphWriter, effects: Mapping[str, Sequence[Effect]], adapter: str
) -> dict[str, str]:
    """Declares the input with the vectors of all effects, and writes each of them for each row of the batch."""
    neutral = {
        f"{path}/{number}/{name}": np.full(value.shape, name in FACTORS, np.float32)
        for path, some in effects.items()
        for number, effect in enumerate(some)
        for name, value in tensors_of(effect).items()
        if value.ndim == 1
    }
    if not neutral:
        return {}
    names = sorted(neutral)
    default = np.concatenate([neutral[name] for name in names])[None, None]
    packed = graph.input(_VECTORS, FLOAT, ("slots", *default.shape[1:]), default)
    parts = graph.split(graph.add("Gather", packed, adapter), [len(neutral[name]) for name in names], axis=2)
    return dict(zip(names, parts, strict=True))


def _described(effect: Effect) -> tuple[Any, ...]:
    """Returns the type, the shapes and the settings of an effect."""
    values = []
    for one in fields(effect):
        value = getattr(effect, one.name)
        if one.name != "scaling":  # It is part of a matrix.
            values.append((one.name, value.shape if isinstance(value, np.ndarray) else value))
    return (type(effect).__name__, *values)
