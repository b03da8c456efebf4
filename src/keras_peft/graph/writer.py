"""Writes the nodes, constants, inputs and outputs of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from keras_peft._version import __version__

OPSET, IR_VERSION = 17, 9
MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
# Larger constants are stored once for each name.
_MOST_COMPARED = 4096


@dataclass(frozen=True)
class Graph:
    """A graph whose large constants are kept apart, so that it can be run without copying them.

    Attributes:
        model: The model without its large constants.
        constants: The large constants by name.
    """

    model: onnx.ModelProto
    constants: Mapping[str, np.ndarray]

    def to_bytes(self) -> bytes:
        """Returns the whole model. The same graph gives the same bytes."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.model)
        for name, array in self.constants.items():
            whole.graph.initializer.append(_tensor(name, array))
        content: bytes = whole.SerializeToString(deterministic=True)
        return content

    def with_outputs(self, names: Sequence[str]) -> Graph:
        """Returns the graph with some of its tensors as further outputs.

        Args:
            names: Names of float32 tensors.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for name in names:
            model.graph.output.append(helper.make_tensor_value_info(name, FLOAT, None))
        return Graph(model, self.constants)

    def to_reference(self) -> bytes:
        """Returns the model with references to its large constants, which a session then gets in memory."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.model)
        for name, array in self.constants.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor = onnx.TensorProto(
                name=name, data_type=kind, dims=array.shape, data_location=onnx.TensorProto.EXTERNAL
            )
            tensor.external_data.add(key="location", value="memory")
            whole.graph.initializer.append(tensor)
        content: bytes = whole.SerializeToString()
        return content


class GraphWriter:
    """Writes a graph. The same calls give the same bytes.

    Args:
        name: Name of the graph.

    Example:
        >>> graph = GraphWriter("sum")
        >>> x = graph.input("x", FLOAT, ("batch", 4))
        >>> graph.output("y", graph.add("Add", x, graph.constant(np.ones(4, np.float32))), FLOAT, ("batch", 4))
        >>> onnxruntime.InferenceSession(graph.graph().to_bytes())
    """

    def __init__(self, name: str) -> None:
        self._name, self._scope = name, ""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._large: dict[str, np.ndarray] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._counts: dict[str, int] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Adds a prefix to the names of what is written within the context.

        Args:
            name: The prefix, such as the name of a layer.
        """
        before = self._scope
        self._scope = f"{before}{name}/"
        try:
            yield
        finally:
            self._scope = before

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Writes a node with one output.

        Args:
            operator: The operator, such as "MatMul".
            inputs: Names of its inputs; "" for an optional one that is left out.
            domain: Domain of the operator; "" for standard ones.
            attributes: Its attributes.

        Returns:
            The name of its output.
        """
        output = self._named(operator)
        self._nodes.append(
            helper.make_node(operator, list(inputs), [output], name=output, domain=domain, **attributes)
        )
        return output

    def split(self, x: str, sizes: Sequence[int], *, axis: int) -> list[str]:
        """Writes a node that splits a tensor.

        Args:
            x: Name of the tensor.
            sizes: Sizes of the parts.
            axis: The axis to split.

        Returns:
            The names of the parts.
        """
        name = self._named("Split")
        parts = [f"{name}_{number}" for number in range(len(sizes))]
        self._nodes.append(helper.make_node("Split", [x, self.integers(*sizes)], parts, name=name, axis=axis))
        return parts

    def constant(self, value: Any, name: str | None = None) -> str:
        """Writes a constant. Equal small ones are written once.

        Args:
            value: The value. It keeps its shape, also that of a scalar.
            name: Its name; by default, it is numbered.

        Returns:
            The name of the constant.
        """
        array = np.array(value, order="C")
        key = (array.dtype.str, array.shape, array.tobytes() if array.nbytes <= _MOST_COMPARED else b"")
        if name is None and key[2] and key in self._known:
            return self._known[key]
        # A constant that others may share is named after none of its users.
        name = name or f"constant_{len(self._constants) + len(self._large)}"
        if array.nbytes > _MOST_COMPARED:
            self._large[name] = array
        else:
            self._constants[name] = _tensor(name, array)
        self._known.setdefault(key, name)
        return name

    def integers(self, *values: int) -> str:
        """Writes a constant vector of 64-bit integers, as shapes and axes are.

        Args:
            values: The integers.

        Returns:
            The name of the constant.
        """
        return self.constant(np.array(values, np.int64))

    def input(
        self, name: str, kind: int, shape: Sequence[int | str], default: np.ndarray | None = None
    ) -> str:
        """Declares an input.

        Args:
            name: Its name.
            kind: Its data type, one of ONNX's numbers.
            shape: Its shape; names stand for sizes that vary.
            default: Value of the input if it is not given.

        Returns:
            The name.
        """
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        if default is not None:
            self._constants[name] = _tensor(name, np.array(default, order="C"))
        return name

    def output(self, name: str, x: str, kind: int, shape: Sequence[int | str]) -> None:
        """Declares an output.

        Args:
            name: Its name.
            x: Name of the tensor that it returns.
            kind: Its data type, one of ONNX's numbers.
            shape: Its shape; names stand for sizes that vary.
        """
        self._nodes.append(helper.make_node("Identity", [x], [name], name=f"output/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def graph(self) -> Graph:
        """Returns the graph and its large constants."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._constants.values())
        )
        domains = sorted({node.domain for node in self._nodes})
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, 1 if domain else OPSET) for domain in domains],
            ir_version=IR_VERSION,
            producer_name="keras-peft",
            producer_version=__version__,
        )
        return Graph(model, dict(self._large))

    def _named(self, operator: str) -> str:
        stem = f"{self._scope}{operator}"
        number = self._counts[stem] = self._counts.get(stem, -1) + 1
        return f"{stem}_{number}" if number else stem


def _tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return helper.make_tensor(name, kind, array.shape, little.tobytes(), raw=True)
