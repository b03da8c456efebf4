"""Split a model into trunk and top, below the first layer that an adapter touches.

The trunk's output for a row does not change while the adapter trains, so it is computed once. The
split point is found in the graph of a Functional model and of the Functional models nested in it. The
existing layers are called; nothing is rebuilt, and no architecture is special.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Feature:
    """One of the tensors that the top reads.

    Attributes:
        shape: Shape, with None for the batch and other variable axes.
        dtype: Name of the dtype.
        raw: Index in the model's flattened inputs if the tensor is an input; None if the
            trunk computes it.
    """

    shape: tuple[int | None, ...]
    dtype: str
    raw: int | None


class ModelSplit:
    """A Functional model in two parts: `top(trunk(x))` is the model's output for x.

    Args:
        model: The model.
        touched: The layers, at any depth, whose outputs may change between epochs.

    Attributes:
        features: The tensors that the trunk returns and the top reads, in order.
        frontier: Identifies the split point; equal for all splits of the model at that point.
        below: The layers that only the trunk calls.
    """

    def __init__(self, model: keras.Model, touched: Iterable[keras.Layer]) -> None:
        self._model = model
        graph = _Graph(model, {id(layer) for layer in touched})
        late: set[int] = set()
        for step in graph.steps:
            if step.is_touched or late.intersection(step.reads.values()):
                late.update(step.writes)
        self._late = [step for step in graph.steps if late.issuperset(step.writes)]
        read = [key for step in self._late for key in step.reads.values()]
        self._frontier = [key for key in dict.fromkeys([*read, *graph.outputs]) if key not in late]
        self._early = _leading_to(self._frontier, [step for step in graph.steps if step not in self._late])
        self._inputs, self._outputs = graph.inputs, graph.outputs
        self.frontier = tuple(id(graph.tensors[key]) for key in self._frontier)
        self.features = tuple(
            Feature(
                tuple(tensor.shape),
                str(tensor.dtype),
                graph.inputs.index(key) if key in graph.inputs else None,
            )
            for key in self._frontier
            for tensor in [graph.tensors[key]]
        )
        above = {id(layer) for step in self._late for layer in _layers_of(step.node.operation)}
        self.below = [
            layer
            for step in self._early
            for layer in _layers_of(step.node.operation)
            if id(layer) not in above
        ]

    def trunk(self, inputs: Any) -> list[Any]:
        """Computes the features of a batch; uses inference mode if the caller does."""
        values = {
            key: keras.ops.convert_to_tensor(value, tensor.dtype)
            for key, value, tensor in zip(
                self._inputs, keras.tree.flatten(inputs), self._model.inputs, strict=True
            )
        }
        _run(self._early, values)
        return [values[key] for key in self._frontier]

    def top(self, features: Sequence[Any]) -> Any:
        """Computes the model's output from the features of a batch."""
        values = {
            key: keras.ops.convert_to_tensor(value, feature.dtype)
            for key, value, feature in zip(self._frontier, features, self.features, strict=True)
        }
        _run(self._late, values)
        outputs = [values[key] for key in self._outputs]
        is_sequential = isinstance(self._model, keras.Sequential)
        return outputs[0] if is_sequential else keras.tree.pack_sequence_as(self._model.output, outputs)


def split_model(model: keras.Model, touched: Iterable[keras.Layer]) -> ModelSplit | None:
    """Splits a model if this saves computation.

    Args:
        model: Any model.
        touched: The layers, at any depth, whose outputs may change between epochs.

    Returns:
        The two parts, or None if the model has no graph, if nothing is computed below the
        touched layers, or if a layer there creates implicit masks that are not among the
        tensors, as `Embedding(mask_zero=True)` does.

    Example:
        >>> split = split_model(backbone, [backbone.get_layer("transformer_layer_5")])
        >>> split.top(split.trunk(inputs))  # equals backbone(inputs)
    """
    if not _has_graph(model):
        return None
    split = ModelSplit(model, touched)
    if all(feature.raw is not None for feature in split.features):
        return None
    return None if any(_makes_masks(layer) for layer in split.below) else split


@dataclass(frozen=True, eq=False)
class _Step:
    """A call in the graph: its node, and the keys of the values that it reads and writes."""

    node: Any
    reads: Mapping[int, int]
    writes: Sequence[int]
    is_touched: bool


class _Graph:
    """The calls of a model in order, with touched nested models expanded into their own calls."""

    def __init__(self, model: keras.Model, touched: set[int]) -> None:
        self._touched = touched
        self.tensors: list[keras.KerasTensor] = []
        self.steps: list[_Step] = []
        self.inputs = self._new(model.inputs)
        self.outputs = self._add(model, self.inputs)

    def _new(self, tensors: Sequence[keras.KerasTensor]) -> list[int]:
        first = len(self.tensors)
        self.tensors += tensors
        return list(range(first, len(self.tensors)))

    def _add(self, model: Any, given: Sequence[int]) -> list[int]:
        keys = dict(zip(map(id, model.inputs), given, strict=True))
        for node in _nodes_of(model):
            operation = node.operation
            reads = {id(tensor): keys[id(tensor)] for tensor in node.input_tensors}
            is_touched = any(id(layer) in self._touched for layer in _layers_of(operation))
            if is_touched and id(operation) not in self._touched and _is_plain_call(node):
                writes = self._add(operation, [reads[id(tensor)] for tensor in node.input_tensors])
            else:
                writes = self._new(node.output_tensors)
                self.steps.append(_Step(node, reads, writes, is_touched))
            keys |= zip(map(id, node.output_tensors), writes, strict=True)
        return [keys[id(tensor)] for tensor in model.outputs]


def _run(steps: Iterable[_Step], values: dict[int, Any]) -> None:
    for step in steps:
        args, kwargs = step.node.arguments.fill_in({name: values[key] for name, key in step.reads.items()})
        kwargs.pop("training", None)  # Recorded when the model was built; the caller's mode applies instead.
        outputs = keras.tree.flatten(step.node.operation(*args, **kwargs))
        values.update(zip(step.writes, outputs, strict=True))


def _leading_to(wanted: Iterable[int], steps: Sequence[_Step]) -> list[_Step]:
    needed, kept = set(wanted), []
    for step in reversed(steps):
        if needed.intersection(step.writes):
            needed.update(step.reads.values())
            kept.append(step)
    return kept[::-1]


def _nodes_of(model: Any) -> list[Any]:
    """Returns the calls between a Functional model's inputs and outputs in topological order."""
    known = {id(tensor) for tensor in model.inputs}
    ordered: dict[int, Any] = {}
    waiting = [(tensor, False) for tensor in reversed(model.outputs)]
    while waiting:
        tensor, is_ready = waiting.pop()
        if id(tensor) in known:
            continue
        operation, number, _ = tensor._keras_history
        node = operation._inbound_nodes[number]
        if is_ready:
            known |= {id(output) for output in node.output_tensors}
            ordered[id(node)] = node
        else:
            waiting.append((tensor, True))
            waiting += [(read, False) for read in reversed(node.input_tensors)]
    return list(ordered.values())


def _has_graph(operation: Any) -> bool:
    is_functional = isinstance(operation, keras.Model) and hasattr(operation, "operations")
    return is_functional or (isinstance(operation, keras.Sequential) and operation.built)


def _is_plain_call(node: Any) -> bool:
    """Whether a nested model is called on its inputs only, so that its own calls can replace it."""
    others = {name: value for name, value in node.arguments.kwargs.items() if name != "training"}
    return (
        _has_graph(node.operation)
        and all(value is None for value in keras.tree.flatten(others))
        and len(node.arguments.args) == 1
        and len(keras.tree.flatten(node.arguments.args))
        == len(node.input_tensors)
        == len(node.operation.inputs)
    )


def _layers_of(operation: Any) -> Iterator[keras.Layer]:
    """Yields a layer and its sublayers; nothing for an operation that is not a layer."""
    if isinstance(operation, keras.Layer):
        yield from operation._flatten_layers(include_self=True, recursive=True)


def _makes_masks(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Masking) or bool(getattr(layer, "mask_zero", False))
