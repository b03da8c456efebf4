"""What is checked of an ONNX file before a runtime opens it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from keras_peft.bundle.onnx_file import refuse_unsafe
from keras_peft.errors import BundleMismatch


def model(*, nodes=None, initializers=(), functions=(), domains=("",)):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"])]
    w = helper.make_tensor("w", TensorProto.FLOAT, [2], np.ones(2, "float32").tobytes(), raw=True)
    graph = helper.make_graph(nodes, "graph", [x], [y], [w, *initializers])
    imports = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=9)


def external(name="v"):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def in_a_branch(tensor):
    inner = helper.make_graph(
        [helper.make_node("Identity", ["v"], ["z"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
        [tensor],
    )
    return [
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]


def as_a_constant(tensor):
    return [helper.make_node("Constant", [], ["y"], value=tensor)]


HARMFUL = {
    "external": (lambda: model(initializers=[external()]), "weights are in other files"),
    "external-in-a-branch": (lambda: model(nodes=in_a_branch(external())), "weights are in other files"),
    "external-constant": (lambda: model(nodes=as_a_constant(external())), "weights are in other files"),
    "unknown-domain": (lambda: model(domains=("", "com.evil")), "com.evil"),
    "unknown-domain-of-a-node": (
        lambda: model(nodes=[helper.make_node("Add", ["x", "w"], ["y"], domain="org.other")]),
        "org.other",
    ),
    "function": (
        lambda: model(
            functions=[
                helper.make_function(
                    "com.microsoft",
                    "F",
                    ["a"],
                    ["b"],
                    [helper.make_node("Identity", ["a"], ["b"])],
                    [helper.make_opsetid("", 17)],
                )
            ]
        ),
        "defines functions",
    ),
}


def written(path, content):
    path.write_bytes(content)
    return path


def test_a_plain_model_is_accepted(tmp_path):
    refuse_unsafe(written(tmp_path / "model.onnx", model().SerializeToString()))
    refuse_unsafe(written(tmp_path / "other.onnx", model(domains=("", "com.microsoft")).SerializeToString()))


@pytest.mark.parametrize("name", HARMFUL)
def test_what_a_stranger_could_add_is_refused(name, tmp_path):
    make, message = HARMFUL[name]
    with pytest.raises(BundleMismatch, match=message):
        refuse_unsafe(written(tmp_path / "model.onnx", make().SerializeToString()))


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_peft.bundle.onnx_file.MOST_BYTES", 10)
    with pytest.raises(BundleMismatch, match="at most 10 are read"):
        refuse_unsafe(written(tmp_path / "model.onnx", model().SerializeToString()))


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content, tmp_path_factory):
    path = written(tmp_path_factory.getbasetemp() / "any.onnx", content)
    try:
        refuse_unsafe(path)
    except BundleMismatch as error:
        assert "any.onnx" in str(error)


@given(data=st.data())
def test_a_damaged_model_raises_nothing_else(data, tmp_path_factory):
    content = bytearray(model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = written(tmp_path_factory.getbasetemp() / "damaged.onnx", bytes(content))
    try:
        refuse_unsafe(path)
    except BundleMismatch as error:
        assert "damaged.onnx" in str(error)
