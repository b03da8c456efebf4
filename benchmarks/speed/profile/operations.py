"""The operations of training steps by kind, from TensorFlow's trace, and the size of their matrix products."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

MATRIX, UPDATE, RANDOM, FEED = "matrix products", "optimizer", "random numbers", "data feeding"
NORM, COPY, ELEMENTWISE = "sums and softmax", "copies and shapes", "elementwise"

# Parts of the operation's name, or of its type, and its kind. The first that fits counts.
_BY_NAME = ((("adam", "clip_by_global_norm", "global_norm"), UPDATE), (("/dropout",), RANDOM))
_BY_TYPE = (
    (("matmul", "einsum"), MATRIX),
    (("random",), RANDOM),
    (("iterator", "dataset", "pyfunc", "generator", "optional"), FEED),
    (("assign", "resourceapply"), UPDATE),
    (("sum", "mean", "softmax", "l2loss", "argmax", "prod"), NORM),
    (
        ("reshape", "transpose", "concat", "slice", "pack", "gather", "shape", "identity", "readvariable",
         "expanddims", "squeeze", "tile", "split", "fill", "zeros", "broadcast", "const", "range", "pad",
         "scatter", "arg", "retval", "rank", "size"),
        COPY,
    ),
)  # fmt: skip
_FUNCTIONS = ("partitionedcall", "statelesswhile", "statelessif", "noop")


def kinds(folder: Path) -> dict[str, float]:
    """Returns the seconds of the operations in a trace by kind, summed over the threads that compute.

    Args:
        folder: Folder of a trace that TensorFlow's profiler wrote.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    for file in folder.rglob("*.xplane.pb"):
        space.MergeFromString(file.read_bytes())
    seconds: dict[str, float] = defaultdict(float)
    for plane in space.planes:
        names = {number: entry.name for number, entry in plane.event_metadata.items()}
        for line in plane.lines:
            if line.name.startswith("tf_Compute"):
                for event in line.events:
                    if kind := kind_of(names[event.metadata_id]):
                        seconds[kind] += event.duration_ps / 1e12
    return dict(sorted(seconds.items(), key=lambda entry: -entry[1]))


def kind_of(name: str) -> str | None:
    """Returns the kind of an operation, or None for what is not one.

    Args:
        name: Name of an event in TensorFlow's trace.

    Example:
        >>> kind_of("StatefulPartitionedCall/block/dense/MatMul:_MklMatMul")
        'matrix products'
    """
    path, colon, made = name.rpartition(":")
    made = made.strip("_#").lower()
    if not colon or "::" in name or not made.isalnum() or any(part in made for part in _FUNCTIONS):
        return None
    path = path.lower()
    for parts, kind in _BY_TYPE[:2]:
        if any(part in made for part in parts):
            return kind
    for parts, kind in _BY_NAME:
        if any(part in path for part in parts):
            return kind
    return next((kind for parts, kind in _BY_TYPE[2:] if any(part in made for part in parts)), ELEMENTWISE)


def products(model: Any, batches: Any, trunk: Any) -> dict[str, Any]:
    """Counts the multiplications of the matrix products of a training step and of the frozen blocks.

    They are counted in the graph for a batch with the mean number of tokens.

    Args:
        model: The compiled model.
        batches: Its `TrainingBatches`.
        trunk: The `TrunkRunner` of the frozen blocks, if there are any.

    Returns:
        Shape of the batch, and floating-point operations by dtype of a step and of the trunk for this batch.
    """
    import keras
    import tensorflow as tf

    lengths = [int(batches._lengths[rows].max()) for rows in batches._order if len(rows) > 1]
    mean = sum(lengths) / len(lengths)
    chosen = min(range(len(lengths)), key=lambda number: abs(lengths[number] - mean))
    rows = batches._order[chosen]
    batch = keras.tree.map_structure(tf.convert_to_tensor, batches[chosen])
    step = tf.function(model.train_step, autograph=False).get_concrete_function(batch)
    found = {"rows": len(rows), "tokens": mean, "step": flops(step.graph), "trunk": {}}
    if trunk is not None:
        runner = trunk._run
        shapes = [
            tf.TensorSpec((len(rows), lengths[chosen]), tensor.dtype)
            for tensor in keras.tree.flatten(runner._signature)
        ]
        run = tf.function(
            lambda *flat: runner._model(keras.tree.pack_sequence_as(runner._signature, flat), training=False),
            autograph=False,
        )
        found["trunk"] = flops(run.get_concrete_function(*shapes).graph)
    return found


def flops(graph: Any) -> dict[str, float]:
    """Returns the floating-point operations of the matrix products of a graph with known shapes, by dtype."""
    found: dict[str, float] = defaultdict(float)
    called = getattr(graph, "_functions", {}).values()
    graphs = [graph, *(function.graph for function in called if hasattr(function, "graph"))]
    for one in graphs:
        for operation in one.get_operations():
            if operation.type in ("MatMul", "BatchMatMulV2", "BatchMatMulV3"):
                left, made = operation.inputs[0].shape, operation.outputs[0].shape
                turned = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
                count = math.prod(made) * left[-2 if turned else -1]
            elif operation.type == "Einsum":
                count = _einsum(operation)
            else:
                continue
            found[operation.inputs[0].dtype.name] += 2 * count
    return dict(found)


def _einsum(operation: Any) -> int:
    """Returns the multiplications of an einsum: the product of the sizes of all its axes."""
    equation = operation.get_attr("equation").decode()
    sizes = {
        letter: size
        for letters, tensor in zip(equation.split("->")[0].split(","), operation.inputs, strict=True)
        for letter, size in zip(letters, tensor.shape, strict=True)
    }
    return math.prod(sizes.values())
