"""Writes the graph of one bundle: encoder, adapter, pooling and head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from keras_peft.core.pooling import FIRST_TOKEN
from keras_peft.graph.acting import HEAD, resolve
from keras_peft.graph.effects import Constants, Piece
from keras_peft.graph.encoder import EncoderWriter
from keras_peft.graph.head import write_head, write_pooling
from keras_peft.graph.names import IDS, LOGITS, MASK
from keras_peft.graph.writer import FLOAT, INT64, Graph, GraphWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.core.head_task import HeadTask
    from keras_peft.core.placement import Placement
    from keras_peft.graph.products._products import Products


def classifier_graph(
    base: EncoderWeights,
    placements: Sequence[Placement],
    tensors: Mapping[str, np.ndarray],
    task: HeadTask,
    *,
    products: Callable[[GraphWriter], Products],
    is_folded: bool = False,
) -> Graph:
    """Writes the graph of an adapter on its base model.

    Args:
        base: The weights of the base model.
        placements: The methods of the adapter, with their selections.
        tensors: Its tensors by their keys in a file, including the head's.
        task: The task of its head.
        products: How matrices are stored and multiplied, such as `float32.Products`.
        is_folded: Whether the task's temperature, or its mean and deviation, are folded into the outputs; see
            `Task.to_plain`.

    Returns:
        A graph from `input_ids` and `attention_mask`, both (batch, length) int64, to `logits`, (batch, outputs)
        or, for a task with an answer per word, (batch, length, outputs).

    Raises:
        AdapterError: If the tensors do not fit, or the adapter cannot be written as a graph.
        SelectionError: If a target or a layer matches nothing.

    Example:
        >>> graph = classifier_graph(base, placements, tensors, task, products=float32.Products)
        >>> onnxruntime.InferenceSession(graph.to_bytes())
    """
    head = {key.removeprefix(HEAD): value for key, value in tensors.items() if key.startswith(HEAD)}
    acting = resolve(base, placements, tensors, task.head_shapes(base.dim), merges=True)
    graph = GraphWriter("classifier")
    ids, mask = (graph.input(name, INT64, ("batch", "length")) for name in (IDS, MASK))
    pieces = {
        path: [Piece(one, Constants(graph, f"{path}/{number}", one)) for number, one in enumerate(effects)]
        for path, effects in acting.effects.items()
    }
    encoder = EncoderWriter(graph, base, products(graph), acting.changed, pieces)
    vectors = encoder.write(ids, mask, first_only=task.pooling == FIRST_TOKEN)
    outputs = write_head(
        graph, write_pooling(graph, vectors, mask, task.pooling), task, head, is_folded=is_folded
    )
    shape = ("batch", "length", task.outputs) if task.per_word else ("batch", task.outputs)
    graph.output(LOGITS, outputs, FLOAT, shape)
    return graph.graph()
