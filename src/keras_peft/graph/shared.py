"""Writes an encoder in two parts, for rows of many adapters: blocks that all leave unchanged, and those above.

The vectors above are those that the heads read. Heads are not part of the graph, since labels differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_peft.core.pooling import FIRST_TOKEN
from keras_peft.graph.encoder import EncoderWriter
from keras_peft.graph.head import write_pooling
from keras_peft.graph.names import ADAPTER, FEATURES, IDS, MASK, PLACES, POOLING, TOKEN_VECTORS, VECTORS
from keras_peft.graph.slots import Layout, slot_pieces
from keras_peft.graph.union import Union
from keras_peft.graph.writer import FLOAT, INT64, Graph, GraphWriter

if TYPE_CHECKING:
    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.core.effects import Effect
    from keras_peft.graph.products._products import Products


def lowest_block(
    effects: Mapping[str, Sequence[Effect]], changed: Mapping[str, object], blocks: int
) -> int | None:
    """Returns the lowest block that an adapter changes.

    Args:
        effects: Its effects by the path of their layer.
        changed: The layers with changed variables, by path.
        blocks: Number of blocks.

    Returns:
        The number of the block; `blocks` if none is changed, and None if the embeddings are.
    """
    paths = [path for path, some in effects.items() if some] + list(changed)
    numbers = [path.partition("/")[0].rpartition("_") for path in paths]
    if any(stem != "transformer_layer" for stem, _, _ in numbers):
        return None
    return min((int(number) for _, _, number in numbers), default=blocks)


def trunk_graph(base: EncoderWeights, blocks: int, products: Callable[[GraphWriter], Products]) -> Graph:
    """Writes the embeddings and the lower blocks of a base model.

    Args:
        base: The weights of the base model.
        blocks: Number of blocks.
        products: How matrices are stored and multiplied.

    Returns:
        A graph from `input_ids` and `attention_mask`, both (texts, length) int64, to `features`,
        (texts, length, dim).
    """
    graph = GraphWriter("trunk")
    ids, mask = (graph.input(name, INT64, ("texts", "length")) for name in (IDS, MASK))
    encoder = EncoderWriter(graph, base, products(graph), {}, {})
    x, mask, _ = encoder.write_embeddings(ids, mask)
    graph.output(FEATURES, encoder.write_blocks(x, mask, range(blocks)), FLOAT, ("texts", "length", base.dim))
    return graph.graph()


def top_graph(
    base: EncoderWeights,
    start: int | None,
    layout: Layout,
    changed: Mapping[str, Mapping[str, np.ndarray]],
    pooling: str | None,
    products: Callable[[GraphWriter], Products],
) -> Graph:
    """Writes the blocks above a trunk, with slots for adapters of one layout.

    Args:
        base: The weights of the base model.
        start: Number of blocks in the trunk; None if there is no trunk.
        layout: The layout.
        changed: Variables that differ from the base's, for an adapter that is merged.
        pooling: How the heads read the vectors; see `attach.adapt`.
        products: How matrices are stored and multiplied.

    Returns:
        A graph from `features` (texts, length, dim), or `input_ids` if there is no trunk, and `attention_mask`
        (texts, length), both of distinct texts, `places` (batch,), the text of each row, `adapter` (batch,), the
        slot of each row, all int64, and the tensors of the layout, to `vectors`: (batch, 1, dim), or
        (batch, length, dim) if the heads read all of them.
    """
    graph = GraphWriter("top")
    shape: tuple[int | str, ...] = ("texts", "length")
    x = graph.input(IDS, INT64, shape) if start is None else graph.input(FEATURES, FLOAT, (*shape, base.dim))
    mask = graph.input(MASK, INT64, shape)
    places, adapter = (graph.input(name, INT64, ("batch",)) for name in (PLACES, ADAPTER))
    x, mask = (graph.add("Gather", each, places) for each in (x, mask))
    encoder = EncoderWriter(
        graph, base, products(graph), changed, slot_pieces(graph, layout.effects, adapter)
    )
    before, inner = 0, mask
    if start is None:
        x, inner, before = encoder.write_embeddings(x, mask)
    numbers = range(start or 0, encoder.blocks)
    x = encoder.write_blocks(x, inner, numbers, first_only=pooling == FIRST_TOKEN, before=before)
    vectors = write_pooling(graph, x, mask, pooling)
    length: int | str = 1 if pooling else "length"
    if pooling:
        vectors = graph.add("Unsqueeze", vectors, graph.integers(1))
    graph.output(VECTORS, vectors, FLOAT, ("batch", length, base.dim))
    return graph.graph()


def union_graph(
    base: EncoderWeights,
    union: Union,
    poolings: Sequence[str],
    products: Callable[[GraphWriter], Products],
    *,
    has_words: bool,
) -> Graph:
    """Writes a whole encoder, in which each row of a batch may have an adapter of another kind.

    Args:
        base: The weights of the base model.
        union: The effects of all adapters.
        poolings: The poolings of the adapters, each once. If there are several, an input chooses one for each slot.
        products: How matrices are stored and multiplied.
        has_words: Whether heads read the vectors of all tokens.

    Returns:
        A graph from `input_ids` and `attention_mask`, both (batch, length), and `adapter` (batch,), all int64, and
        the tensors of the union, to `vectors`, (batch, dim), if there are poolings, and `token_vectors`,
        (batch, length, dim), if heads read them. Without the tensors, it is the base model.
    """
    graph = GraphWriter("adapters")
    ids, mask = (graph.input(name, INT64, ("batch", "length")) for name in (IDS, MASK))
    adapter = graph.input(ADAPTER, INT64, ("batch",))
    encoder = EncoderWriter(graph, base, products(graph), {}, union.pieces(graph, adapter))
    is_narrow = not has_words and set(poolings) == {FIRST_TOKEN}
    x = encoder.write(ids, mask, first_only=is_narrow)
    if poolings:
        each = [write_pooling(graph, x, mask, pooling) for pooling in poolings]
        vectors = each[0] if len(each) == 1 else _chosen(graph, each, adapter)
        graph.output(VECTORS, vectors, FLOAT, ("batch", base.dim))
    if has_words:
        graph.output(TOKEN_VECTORS, x, FLOAT, ("batch", "length", base.dim))
    return graph.graph()


def _chosen(graph: GraphWriter, each: Sequence[str], adapter: str) -> str:
    """Writes the choice of one of several vectors for each row, by the input `POOLING`."""
    numbers = graph.input(POOLING, FLOAT, ("slots", 1), np.zeros((1, 1), np.float32))
    own = graph.add("Gather", numbers, adapter)
    wanted = graph.constant(np.arange(len(each), dtype=np.float32)[None])
    is_own = graph.add("Cast", graph.add("Equal", own, wanted), to=FLOAT)
    stacked = graph.add("Concat", *(graph.add("Unsqueeze", one, graph.integers(1)) for one in each), axis=1)
    weighed = graph.add("Mul", stacked, graph.add("Unsqueeze", is_own, graph.integers(2)))
    return graph.add("ReduceSum", weighed, graph.integers(1), keepdims=0)
