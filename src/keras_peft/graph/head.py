"""Writes the pooling and the layers of a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_peft.core.pooling import MAX, MEAN
from keras_peft.graph.effects import write_activation
from keras_peft.graph.writer import FLOAT

if TYPE_CHECKING:
    from keras_peft.core.head_task import HeadTask
    from keras_peft.graph.writer import GraphWriter


def write_pooling(graph: GraphWriter, vectors: str, mask: str, pooling: str | None) -> str:
    """Writes the pooling of an encoder's vectors.

    Args:
        graph: Writes the graph.
        vectors: Name of the vectors, (batch, length, dim).
        mask: Name of the mask, (batch, length) int64.
        pooling: One of `POOLINGS`, or None if the head reads all vectors.

    Returns:
        The name of the pooled vectors, (batch, dim), or of all vectors.
    """
    if pooling is None:
        return vectors
    if pooling not in (MEAN, MAX):
        first = graph.add("Slice", vectors, graph.integers(0), graph.integers(1), graph.integers(1))
        return graph.add("Squeeze", first, graph.integers(1))
    if pooling == MAX:
        is_token = graph.add("Cast", graph.add("Unsqueeze", mask, graph.integers(2)), to=9)  # bool
        # A row of padding only must stay finite.
        lowest = graph.add("ReduceMin", vectors, axes=[1], keepdims=1)
        return graph.add("ReduceMax", graph.add("Where", is_token, vectors, lowest), axes=[1], keepdims=0)
    weights = graph.add("Cast", graph.add("Unsqueeze", mask, graph.integers(2)), to=FLOAT)
    total = graph.add("ReduceSum", graph.add("Mul", vectors, weights), graph.integers(1), keepdims=0)
    count = graph.add("ReduceSum", weights, graph.integers(1), keepdims=0)
    return graph.add("Div", total, graph.add("Max", count, graph.constant(np.float32(1))))


def write_head(
    graph: GraphWriter, x: str, task: HeadTask, tensors: Mapping[str, np.ndarray], *, is_folded: bool
) -> str:
    """Writes the layers of a head.

    Args:
        graph: Writes the graph.
        x: Name of what the head reads, (batch, dim) or (batch, length, dim).
        task: The task.
        tensors: Tensors of the head by the keys of `Task.head_shapes`, float32.
        is_folded: Whether the task is folded into the last layer; see `Task.to_plain`.

    Returns:
        The name of the outputs, (batch, outputs) or (batch, length, outputs).
    """
    layers = task.head_layers
    for number, (name, activation) in enumerate(layers):
        kernel, bias = tensors[f"{name}/kernel"], tensors[f"{name}/bias"]
        if is_folded and number == len(layers) - 1:
            kernel, bias = task.to_plain(kernel, bias)
        x = graph.add("MatMul", x, graph.constant(np.asarray(kernel, np.float32), f"head/{name}/kernel"))
        x = graph.add("Add", x, graph.constant(np.asarray(bias, np.float32), f"head/{name}/bias"))
        x = write_activation(graph, x, activation)
    return x
