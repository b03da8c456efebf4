"""Mutations of ONNX files that stay valid protocol buffers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.mutations import Mutation, raw

_SIZES = (0, -1, 1, 3, 2**31, 2**40, 2**62)
_OPERATORS = (
    "If",
    "Loop",
    "Scan",
    "Expand",
    "Tile",
    "Range",
    "Reshape",
    "Pad",
    "Identity",
    "Unknown",
    "",
    "Gather",
)
_DOMAINS = ("com.microsoft", "ai.onnx.ml", "ai.onnx.training", "evil", "\x1b[2J", "com.microsoft.nchwc")


def graph(random: Random, content: bytes) -> bytes:
    """Changes a node, a tensor, an input or an output."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
        random.choice(_CHANGES)(random, model)
        return bytes(model.SerializeToString())
    except Exception:  # protobuf's exceptions, and values that a field does not take
        return raw.flip(random, content)


def _node(random: Random, model: Any) -> None:
    node = random.choice(model.graph.node)
    random.choice(
        (
            lambda: setattr(node, "op_type", random.choice(_OPERATORS)),
            lambda: setattr(node, "domain", random.choice(_DOMAINS)),
            lambda: model.graph.node.remove(node),
            lambda: node.input.append(random.choice((*node.input, "", "unknown"))),
            lambda: node.input.pop(),
            lambda: node.output.append("logits"),
            lambda: node.ClearField("attribute"),
        )
    )()


def _attribute(random: Random, model: Any) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    attribute = random.choice(random.choice(nodes).attribute)
    random.choice(
        (
            lambda: setattr(attribute, "i", random.choice(_SIZES)),
            lambda: setattr(attribute, "f", random.choice((float("nan"), 1e38, -1.0))),
            lambda: setattr(attribute, "type", random.randrange(15)),
            lambda: setattr(attribute, "name", random.choice(("axis", "to", "unknown"))),
            lambda: attribute.ints.extend([random.choice(_SIZES)] * random.choice((1, 20))),
        )
    )()


def _tensor(random: Random, model: Any) -> None:
    tensor = random.choice(model.graph.initializer)
    external = {"location": random.choice(("/etc/passwd", "../x", "model.onnx")), "length": str(2**40)}
    random.choice(
        (
            lambda: tensor.dims.append(random.choice(_SIZES)),
            lambda: tensor.dims.__setitem__(0, random.choice(_SIZES)),
            lambda: setattr(tensor, "data_type", random.randrange(25)),
            lambda: setattr(tensor, "raw_data", tensor.raw_data[: len(tensor.raw_data) // 2]),
            lambda: setattr(tensor, "raw_data", raw.flip(random, tensor.raw_data)),
            lambda: setattr(tensor, "raw_data", b"\0\0\xc0\x7f" * (len(tensor.raw_data) // 4)),
            lambda: setattr(tensor, "name", "other"),
            lambda: model.graph.initializer.remove(tensor),
            lambda: (
                setattr(tensor, "data_location", 1),
                [tensor.external_data.add(key=key, value=value) for key, value in external.items()],
            ),
        )
    )()


def _declared(random: Random, model: Any) -> None:
    value = random.choice([*model.graph.input, *model.graph.output])
    shape = value.type.tensor_type
    random.choice(
        (
            lambda: setattr(shape, "elem_type", random.randrange(20)),
            lambda: setattr(value, "name", "other"),
            lambda: shape.shape.dim.add(),
            lambda: setattr(shape.shape.dim[0], "dim_value", random.choice(_SIZES)),
            lambda: model.graph.output.add().CopyFrom(value),
            lambda: model.graph.ClearField("output"),
        )
    )()


def _versions(random: Random, model: Any) -> None:
    random.choice(
        (
            lambda: setattr(model, "ir_version", random.choice(_SIZES)),
            lambda: setattr(model.opset_import[0], "version", random.choice(_SIZES)),
            lambda: model.opset_import.add(domain=random.choice(_DOMAINS), version=1),
            lambda: model.ClearField("opset_import"),
            lambda: model.functions.add(name="f", domain=random.choice(_DOMAINS)),
        )
    )()


_Change = Callable[[Random, Any], None]
_CHANGES: tuple[_Change, ...] = (_node, _node, _attribute, _tensor, _tensor, _declared, _versions)

MUTATIONS: tuple[Mutation, ...] = (graph, graph, graph, *raw.MUTATIONS)
