"""Writes the effects of an adapter as nodes.

The tensors of an effect are constants, or inputs with a slot for each of many adapters; see `Parameters`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keras_peft.core.effects import Bottleneck, Edit, Effect

if TYPE_CHECKING:
    from keras_peft.graph.writer import GraphWriter


class Parameters(Protocol):
    """The tensors of an effect at one layer."""

    def __contains__(self, name: str) -> bool:
        """Returns whether the effect has a tensor."""

    def vector(self, name: str) -> str:
        """Returns a vector (dim,) so that it broadcasts with (batch, length, dim)."""

    def matrix(self, name: str) -> str:
        """Returns a matrix (in, out), or one per row of the batch, (batch, in, out)."""

    def rows(self, name: str, x: str) -> str:
        """Returns rows for each row of a batch, (batch, rows, …), where x is any tensor (batch, …)."""


@dataclass(frozen=True)
class Piece:
    """An effect at a layer, with its tensors in the graph.

    Attributes:
        effect: The effect; of its arrays, only the shapes matter.
        own: Its tensors.
    """

    effect: Effect
    own: Parameters


def tensors_of(effect: Effect) -> dict[str, np.ndarray]:
    """Returns the tensors of an effect by name, float32, as its nodes read them.

    Args:
        effect: The effect.
    """
    tensors = {
        name: np.asarray(value, np.float32)
        for name, value in vars(effect).items()
        if isinstance(value, np.ndarray)
    }
    if isinstance(effect, Bottleneck):
        # The scaling is part of the second matrix.
        tensors |= {name: tensors[name] * np.float32(effect.scaling) for name in ("up", "up_bias")}
    if isinstance(effect, Edit):
        tensors["basis_transposed"] = np.ascontiguousarray(tensors["basis"].T)
    return tensors


class Constants:
    """The tensors of one adapter's effect, written as constants; see `Parameters`.

    Args:
        graph: Writes the graph.
        prefix: Prefix of the names of the constants.
        effect: The effect.
    """

    def __init__(self, graph: GraphWriter, prefix: str, effect: Effect) -> None:
        self._graph, self._prefix, self._tensors = graph, prefix, tensors_of(effect)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def vector(self, name: str) -> str:
        """Writes a vector; see `Parameters.vector`."""
        return self._graph.constant(self._tensors[name], f"{self._prefix}/{name}")

    matrix = vector

    def rows(self, name: str, x: str) -> str:
        """Writes rows; see `Parameters.rows`."""
        rows = self._graph.constant(self._tensors[name][None], f"{self._prefix}/{name}")
        return write_for_each(self._graph, rows, x)


def write_for_each(graph: GraphWriter, rows: str, x: str) -> str:
    """Repeats a tensor (1, …) for each row of a batch.

    Args:
        graph: Writes the graph.
        rows: Name of the tensor.
        x: Name of any tensor (batch, …).

    Returns:
        The name of the repeated tensor, (batch, …).
    """
    zero, one, end = graph.integers(0), graph.integers(1), graph.integers(2**31)
    batch = graph.add("Slice", graph.add("Shape", x), zero, one, zero)
    rest = graph.add("Slice", graph.add("Shape", rows), one, end, zero)
    return graph.add("Expand", rows, graph.add("Concat", batch, rest, axis=0))


def write_affine(
    graph: GraphWriter, own: Parameters, x: str, inner: Callable[[str], str], bias: str | None
) -> str:
    """Writes scales, a low-rank product and a bias around a layer; see `effects.Affine`.

    Args:
        graph: Writes the graph.
        own: The tensors.
        x: Name of the layer's inputs.
        inner: Writes the layer without its bias.
        bias: Name of the layer's bias, if it has one.

    Returns:
        The name of the outputs.
    """
    y = inner(graph.add("Mul", x, own.vector("input_scale")) if "input_scale" in own else x)
    if "output_scale" in own:
        scale = own.vector("output_scale")
        y, bias = graph.add("Mul", y, scale), bias and graph.add("Mul", bias, scale)
    if "left" in own:
        narrow = graph.add("MatMul", x, own.matrix("left"))
        y = graph.add("Add", y, graph.add("MatMul", narrow, own.matrix("right")))
    if "bias" in own:
        # The biases are added to each other first, since the outputs are larger.
        bias = graph.add("Add", bias, own.vector("bias")) if bias else own.vector("bias")
    return graph.add("Add", y, bias) if bias else y


def write_bottleneck(graph: GraphWriter, own: Parameters, x: str, activation: str) -> str:
    """Writes a bottleneck; see `effects.Bottleneck`. Its scaling is part of the second matrix.

    Args:
        graph: Writes the graph.
        own: The tensors.
        x: Name of what it reads, (batch, length, dim).
        activation: Name of the activation.

    Returns:
        The name of the result, (batch, length, dim).
    """
    narrow = graph.add("Add", graph.add("MatMul", x, own.matrix("down")), own.vector("down_bias"))
    narrow = write_activation(graph, narrow, activation)
    return graph.add("Add", graph.add("MatMul", narrow, own.matrix("up")), own.vector("up_bias"))


def write_edit(graph: GraphWriter, own: Parameters, x: str, is_edited: str) -> str:
    """Writes an edit of a block's outputs; see `effects.Edit`.

    Args:
        graph: Writes the graph.
        own: The tensors.
        x: Name of the outputs, (batch, length, dim).
        is_edited: Name of a boolean tensor (batch, length, 1).

    Returns:
        The name of the edited outputs.
    """
    basis = own.matrix("basis")
    target = graph.add("Add", graph.add("MatMul", x, own.matrix("source")), own.vector("bias"))
    change = graph.add("Sub", target, graph.add("MatMul", x, basis))
    change = graph.add("MatMul", change, own.matrix("basis_transposed"))
    return graph.add("Where", is_edited, graph.add("Add", x, change), x)


LOWEST = {"gelu": -0.17, "gelu_new": -0.171, "gelu_pytorch_tanh": -0.171, "relu": 0.0, "silu": -0.279}
"""Values that the results of activations are never below."""


def write_activation(graph: GraphWriter, x: str, name: str | None) -> str:
    """Writes an activation function.

    Args:
        graph: Writes the graph.
        x: Name of its input.
        name: "gelu", "gelu_new" and "gelu_pytorch_tanh" (its approximation with tanh), "relu", "silu" or "tanh";
            None for none.

    Returns:
        The name of its output.
    """
    if name is None:
        return x
    if name == "gelu":
        # In the form that ONNX Runtime recognises: x · 0.5 · (1 + erf(x / √2)).
        inner = graph.add("Erf", graph.add("Div", x, graph.constant(np.float32(np.sqrt(2)))))
        inner = graph.add("Add", inner, graph.constant(np.float32(1)))
        return graph.add("Mul", graph.add("Mul", x, inner), graph.constant(np.float32(0.5)))
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        cube = graph.add("Mul", graph.add("Mul", x, x), x)
        inner = graph.add("Add", x, graph.add("Mul", cube, graph.constant(np.float32(0.044715))))
        inner = graph.add("Tanh", graph.add("Mul", inner, graph.constant(np.float32(np.sqrt(2 / np.pi)))))
        inner = graph.add("Add", inner, graph.constant(np.float32(1)))
        return graph.add("Mul", graph.add("Mul", x, inner), graph.constant(np.float32(0.5)))
    if name == "silu":
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    return graph.add({"relu": "Relu", "tanh": "Tanh"}[name], x)
