"""Smoothing factors for 8-bit graphs, from the activations of some texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_peft.graph.names import IDS, MASK
from keras_peft.graph.products._recording import Recorder
from keras_peft.runtime.onnx_session import Session

if TYPE_CHECKING:
    from keras_peft.graph.products._products import Products
    from keras_peft.graph.writer import Graph, GraphWriter

# The strength of the smoothing, SmoothQuant's alpha: 0 leaves the activations as they are.
_STRENGTH = 0.6
_LEAST = 1e-4


def smoothing_factors(
    write: Callable[[Callable[[GraphWriter], Products]], Graph], batches: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Computes the smoothing factors of the matrices of a graph; see `graph/products/int8.py`.

    Args:
        write: Writes the graph with a precision.
        batches: Inputs of the graph for some texts, without padding.

    Returns:
        The factors of the inputs of each matrix, (in,) float32, by the name of the matrix.

    Example:
        >>> factors = smoothing_factors(lambda products: graph_of(bundle, base, products=products), batches)
    """
    recorders: list[Recorder] = []

    def recording(graph: GraphWriter) -> Recorder:
        recorders.append(Recorder(graph))
        return recorders[-1]

    graph = write(recording)
    (recorder,) = recorders
    names = sorted(recorder.largest)
    # Without an arena, its memory is free again when it ends.
    session = Session(graph.with_outputs(names).to_reference(), graph.constants, keeps_memory=False)
    highest = dict.fromkeys(names, np.zeros(1, np.float32))
    for batch in batches:
        for name, value in zip(names, session.run_all(names, batch), strict=True):
            own = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            highest[name] = np.maximum(highest[name], own)
    factors = {name: _factors(highest[name], recorder.largest[name]) for name in names}
    return {matrix: factors[name] for matrix, name in recorder.inputs.items()}


def one_by_one(rows: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yields the inputs of a graph for each row, without padding.

    Args:
        rows: The token ids of each row, (tokens,).
    """
    for ids in rows:
        row = np.asarray(ids, np.int64)[None]
        yield {IDS: row, MASK: np.ones_like(row)}


def _factors(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns factors with a geometric mean of 1 from the largest activations and weights of each channel."""
    logarithms = _STRENGTH * np.log(np.maximum(activations, _LEAST))
    logarithms -= (1 - _STRENGTH) * np.log(np.maximum(weights, _LEAST))
    return np.asarray(np.exp(logarithms - logarithms.mean()), np.float32)
