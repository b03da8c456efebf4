"""Writes a bundle and its base model as an ONNX graph, without Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from keras_peft.bundle.content import Bundle
from keras_peft.bundle.fitting import refuse_long_texts
from keras_peft.bundle.identity import check_base
from keras_peft.errors import AdapterError, BundleMismatch

if TYPE_CHECKING:
    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.graph.products._products import Products
    from keras_peft.graph.writer import Graph, GraphWriter


def graph_of(
    bundle: Bundle,
    base: EncoderWeights,
    *,
    products: Callable[[GraphWriter], Products] | None = None,
    is_folded: bool = False,
) -> Graph:
    """Returns the graph of a bundle's adapter on its base model.

    Args:
        bundle: The bundle.
        base: The weights of the base model that it was trained on.
        products: How matrices are stored and multiplied; in float32 by default.
        is_folded: Whether the task is folded into the outputs; see `Task.to_plain`.

    Returns:
        A graph with the inputs and the output of `classifier_graph`.

    Raises:
        BundleMismatch: If the base model is not the one that the adapter was trained on, or tensors are missing,
            unexpected or of the wrong shape; the message lists them all.
        AdapterError: If the adapter cannot be written as a graph.
    """
    from keras_peft import methods
    from keras_peft.core.fitting import Unfit
    from keras_peft.graph.classifier import classifier_graph
    from keras_peft.graph.products import float32

    check_base(bundle, base)
    placements = methods.placements_from_config(bundle.content["parts"])
    refuse_long_texts(bundle, placements, base.max_length)
    task = bundle.task()
    try:
        tensors = bundle.tensors()
    except AdapterError as error:
        raise BundleMismatch(f"{bundle.folder}: {error}") from None
    try:
        return classifier_graph(
            base, placements, tensors, task, products=products or float32.Products, is_folded=is_folded
        )
    except Unfit as error:
        raise BundleMismatch(f"{bundle.folder}: {error}") from None
