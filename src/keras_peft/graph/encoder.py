"""Writes an encoder with norms after each part of a block: DistilBERT, BERT, RoBERTa and XLM-RoBERTa."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_peft.core.effects import Bottleneck, Edit, KeysAndValues, LearnedInputs, PositionShift
from keras_peft.graph.acting import values_at
from keras_peft.graph.effects import (
    Constants,
    write_activation,
    write_affine,
    write_bottleneck,
    write_edit,
)
from keras_peft.graph.writer import FLOAT

if TYPE_CHECKING:
    from keras_peft.core.effects import Effect
    from keras_peft.core.places import Place
    from keras_peft.graph.acting import Acting
    from keras_peft.graph.products._products import Products
    from keras_peft.graph.writer import GraphWriter
    from keras_peft.sources._weights import EncoderWeights

# Added to the scores of positions that are not read.
_UNREAD = np.float32(-1e9)


class EncoderWriter:
    """Writes an encoder with one adapter.

    Args:
        graph: Writes the graph.
        base: The weights of the base model.
        acting: What the adapter does.
        products: Stores and multiplies the matrices.

    Example:
        >>> vectors = EncoderWriter(graph, base, acting, float32.Products(graph)).write(ids, mask)
    """

    def __init__(self, graph: GraphWriter, base: EncoderWeights, acting: Acting, products: Products) -> None:
        self._graph, self._base, self._acting, self._products = graph, base, acting, products
        self._places = {place.path: place for place in base.places()}
        self._by_role = {(place.block, place.role): place for place in reversed(base.places())}
        self._heads = int(base.config["n_heads"])
        self._activation = str(base.config.get("activation", "gelu"))

    def write(self, ids: str, mask: str, *, first_only: bool) -> str:
        """Writes the encoder.

        Args:
            ids: Name of the token ids, (batch, length) int64.
            mask: Name of the mask, 1 for tokens and 0 for padding, (batch, length) int64.
            first_only: Whether only the vector of the first token is read. The last block is then computed for
                this token only.

        Returns:
            The name of the vectors, (batch, length or 1, dim).
        """
        graph = self._graph
        x, mask, before = self._embedded(ids, mask)
        is_read = graph.add("Cast", mask, to=FLOAT)
        unread = graph.add(
            "Mul", graph.add("Sub", graph.constant(np.float32(1)), is_read), graph.constant(_UNREAD)
        )
        unread = graph.add("Unsqueeze", unread, graph.integers(1, 2))
        blocks = int(self._base.config["n_layers"])
        for number in range(blocks):
            with graph.scope(f"block_{number}"):
                is_narrowed = first_only and number == blocks - 1
                x = self._block(number, x, mask, unread, first=before if is_narrowed else None)
        if before and not first_only:
            x = graph.add("Slice", x, graph.integers(before), graph.integers(2**62), graph.integers(1))
        return x

    def _embedded(self, ids: str, mask: str) -> tuple[str, str, int]:
        """Writes the embeddings; returns them, the mask, and the number of learned vectors before the text."""
        graph = self._graph
        tokens, positions = (self._by_role[None, f"embedding.{name}"] for name in ("token", "position"))
        x = self._products.look_up(
            ids, values_at(self._base, self._acting, tokens)["embeddings"], tokens.path
        )
        before, start = 0, 0
        for effect in self._acting.effects.get(tokens.path, []):
            if isinstance(effect, LearnedInputs):
                before = len(effect.vectors)
                x = self._preceded(x, effect.vectors, f"{tokens.path}/vectors")
                mask = self._preceded(mask, np.ones(before, np.int64), f"{tokens.path}/mask")
        for effect in self._acting.effects.get(positions.path, []):
            if isinstance(effect, PositionShift):
                start += effect.start
        table = graph.constant(values_at(self._base, self._acting, positions)["embeddings"], positions.path)
        length = graph.add(
            "Slice", graph.add("Shape", x), graph.integers(1), graph.integers(2), graph.integers(0)
        )
        end = graph.add("Add", length, graph.integers(start))
        own = graph.add("Slice", table, graph.integers(start), end, graph.integers(0))
        return self._norm("embeddings_layer_norm", graph.add("Add", x, own)), mask, before

    def _block(self, number: int, x: str, mask: str, unread: str, *, first: int | None) -> str:
        """Writes a block; if `first` is a position, only for this one."""
        graph, path = self._graph, f"transformer_layer_{number}"
        effects = self._acting.effects.get(path, [])
        attended, x = self._attention(number, x, unread, first)
        x = self._norm(f"{path}/self_attention_layer_norm", graph.add("Add", x, attended))
        wide = self._layer(self._by_role[number, "ffn.up"], x, self._activation)
        narrow = self._layer(self._by_role[number, "ffn.down"], wide)
        narrow = self._with_bottlenecks(effects, "feed-forward", path, x, narrow)
        total = graph.add("Add", x, narrow)
        norm = f"{path}/feedforward_layer_norm"
        y = self._norm(norm, total)
        if any(isinstance(one, Bottleneck) and one.attaches_to == "last-norm" for one in effects):
            y = self._norm(norm, self._with_bottlenecks(effects, "last-norm", path, y, total))
        for effect in effects:
            if isinstance(effect, Edit):
                y = self._edited(effect, path, y, mask, first)
        return y

    def _attention(self, number: int, x: str, unread: str, first: int | None) -> tuple[str, str]:
        """Writes the attention of a block; returns its output, and the inputs of the queries."""
        graph = self._graph
        asking = x
        if first is not None:
            asking = graph.add(
                "Slice", x, graph.integers(first), graph.integers(first + 1), graph.integers(1)
            )
        query = self._layer(self._by_role[number, "attention.query"], asking)
        key, value = (self._layer(self._by_role[number, f"attention.{part}"], x) for part in ("key", "value"))
        place = self._by_role[number, "attention"]
        for effect in self._acting.effects.get(place.path, []):
            if isinstance(effect, KeysAndValues):
                key = self._preceded(key, effect.keys, f"{place.path}/keys")
                value = self._preceded(value, effect.values, f"{place.path}/values")
                seen = graph.constant(np.zeros((1, 1, 1, len(effect.keys)), np.float32))
                unread = self._preceded(unread, seen, "", axis=3)
        dim = int(self._base.config["dim"])
        scale = graph.constant(np.float32((dim // self._heads) ** -0.5))
        query = graph.add("Mul", self._by_heads(query, (0, 2, 1, 3)), scale)
        scores = graph.add("MatMul", query, self._by_heads(key, (0, 2, 3, 1)))
        shares = graph.add("Softmax", graph.add("Add", scores, unread), axis=-1)
        mixed = graph.add("MatMul", shares, self._by_heads(value, (0, 2, 1, 3)))
        mixed = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = graph.add("Reshape", mixed, graph.integers(0, 0, dim))
        return self._layer(self._by_role[number, "attention.output"], mixed), asking

    def _by_heads(self, x: str, axes: tuple[int, ...]) -> str:
        """Writes (batch, length, dim) as (batch, length, heads, dim of a head), with the axes in another order."""
        x = self._graph.add("Reshape", x, self._graph.integers(0, 0, self._heads, -1))
        return self._graph.add("Transpose", x, perm=list(axes))

    def _layer(self, place: Place, x: str, activation: str | None = None) -> str:
        """Writes a projection with what acts around it."""
        values = values_at(self._base, self._acting, place)

        def product(inputs: str) -> str:
            y = self._products.multiply(inputs, values["kernel"], f"{place.path}/kernel")
            return self._graph.add("Add", y, self._graph.constant(values["bias"], f"{place.path}/bias"))

        return self._around(place.path, x, product, activation)

    def _norm(self, path: str, x: str) -> str:
        """Writes a norm with what acts around it."""
        values = values_at(self._base, self._acting, self._places[path])

        def norm(inputs: str) -> str:
            scale, shift = (
                self._graph.constant(values[name], f"{path}/{name}") for name in ("gamma", "beta")
            )
            return self._graph.add(
                "LayerNormalization", inputs, scale, shift, axis=-1, epsilon=self._base.epsilon
            )

        return self._around(path, x, norm)

    def _around(self, path: str, x: str, inner: Callable[[str], str], activation: str | None = None) -> str:
        graph = self._graph
        effects = self._acting.effects.get(path, [])
        if effects and not isinstance(effects[0], Bottleneck):
            y = write_affine(graph, _constants(graph, path, effects[0]), x, inner)
            effects = effects[1:]
        else:
            y = inner(x)
        y = write_activation(graph, y, activation)
        return self._with_bottlenecks(effects, "output", path, y, y)

    def _with_bottlenecks(
        self, effects: list[Effect], attaches_to: str, path: str, read: str, added_to: str
    ) -> str:
        graph = self._graph
        for number, effect in enumerate(effects):
            if isinstance(effect, Bottleneck) and effect.attaches_to == attaches_to:
                own = _constants(graph, f"{path}/bottleneck_{number}", effect)
                # One after another at a layer's output: each reads what the one before left.
                read = added_to if attaches_to == "output" else read
                added_to = graph.add("Add", added_to, write_bottleneck(graph, own, read, effect.activation))
        return added_to

    def _edited(self, effect: Edit, path: str, y: str, mask: str, first: int | None) -> str:
        graph = self._graph
        own = _constants(graph, f"{path}/edit", effect)
        from_start = graph.add("CumSum", mask, graph.constant(np.int64(1)))
        count = graph.add("ReduceSum", mask, graph.integers(1), keepdims=1)
        from_end = graph.add("Sub", count, from_start)
        at_start = graph.add("LessOrEqual", from_start, graph.constant(np.int64(effect.first)))
        at_end = graph.add("Less", from_end, graph.constant(np.int64(effect.last)))
        is_token = graph.add("Greater", mask, graph.constant(np.int64(0)))
        is_edited = graph.add("And", graph.add("Or", at_start, at_end), is_token)
        is_edited = graph.add("Unsqueeze", is_edited, graph.integers(2))
        if first is not None:
            is_edited = graph.add(
                "Slice", is_edited, graph.integers(first), graph.integers(first + 1), graph.integers(1)
            )
        return write_edit(graph, own, y, is_edited)

    def _preceded(self, x: str, rows: np.ndarray | str, name: str, *, axis: int = 1) -> str:
        """Writes rows before a tensor (batch, length, …) along an axis; the same ones for each row of the batch."""
        graph = self._graph
        if isinstance(rows, np.ndarray):
            rows = graph.constant(np.asarray(rows)[None], name)
        shape = graph.add("Shape", rows)
        batch = graph.add(
            "Slice", graph.add("Shape", x), graph.integers(0), graph.integers(1), graph.integers(0)
        )
        rest = graph.add("Slice", shape, graph.integers(1), graph.integers(2**31), graph.integers(0))
        spread = graph.add("Expand", rows, graph.add("Concat", batch, rest, axis=0))
        return graph.add("Concat", spread, x, axis=axis)


def _constants(graph: GraphWriter, path: str, effect: Effect) -> Constants:
    """Returns the tensors of an effect, ready to be written."""
    tensors = {name: value for name, value in vars(effect).items() if isinstance(value, np.ndarray)}
    if isinstance(effect, Bottleneck):
        tensors |= {name: tensors[name] * np.float32(effect.scaling) for name in ("up", "up_bias")}
    if isinstance(effect, Edit):
        tensors["basis_transposed"] = np.ascontiguousarray(effect.basis.T)
    return Constants(graph, path, dict(tensors))
