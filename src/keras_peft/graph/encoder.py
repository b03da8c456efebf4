"""Writes an encoder with norms after each part of a block: DistilBERT, BERT, RoBERTa and XLM-RoBERTa."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_peft.core.effects import (
    Affine,
    Bottleneck,
    Edit,
    KeysAndValues,
    LearnedInputs,
    PositionShift,
)
from keras_peft.graph.effects import (
    LOWEST,
    Parameters,
    Piece,
    write_activation,
    write_affine,
    write_bottleneck,
    write_edit,
    write_for_each,
)
from keras_peft.graph.writer import FLOAT, INT64

if TYPE_CHECKING:
    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.core.places import Place
    from keras_peft.graph.products._products import Products
    from keras_peft.graph.writer import GraphWriter

# Added to the scores of positions that are not read.
_UNREAD = np.float32(-1e9)


class EncoderWriter:
    """Writes an encoder with adapters.

    Args:
        graph: Writes the graph.
        base: The weights of the base model.
        products: Stores and multiplies the matrices.
        changed: Variables that differ from the base's, by the path of their layer and their name.
        pieces: Effects by the path of their layer, innermost first.

    Example:
        >>> encoder = EncoderWriter(graph, base, float32.Products(graph), acting.changed, pieces)
        >>> vectors = encoder.write(ids, mask, first_only=True)
    """

    def __init__(
        self,
        graph: GraphWriter,
        base: EncoderWeights,
        products: Products,
        changed: Mapping[str, Mapping[str, np.ndarray]],
        pieces: Mapping[str, Sequence[Piece]],
    ) -> None:
        self._graph, self._base, self._products = graph, base, products
        self._changed, self._pieces = changed, pieces
        self._places = {place.path: place for place in base.places()}
        self._by_role = {(place.block, place.role): place for place in reversed(base.places())}
        self._heads = int(base.config["n_heads"])
        self._activation = str(base.config.get("activation", "gelu"))
        self.blocks = int(base.config["n_layers"])

    def write(self, ids: str, mask: str, *, first_only: bool) -> str:
        """Writes the whole encoder.

        Args:
            ids: Name of the token ids, (batch, length) int64.
            mask: Name of the mask, 1 for tokens and 0 for padding, (batch, length) int64.
            first_only: Whether only the vector of the first token is read. The last block is then computed for
                this token only.

        Returns:
            The name of the vectors, (batch, length or 1, dim).
        """
        x, mask, before = self.write_embeddings(ids, mask)
        return self.write_blocks(x, mask, range(self.blocks), first_only=first_only, before=before)

    def write_embeddings(self, ids: str, mask: str) -> tuple[str, str, int]:
        """Writes the embeddings.

        Args:
            ids: As in `write`.
            mask: As in `write`.

        Returns:
            The name of the embedded text, the name of its mask, and the number of learned vectors before it.
        """
        graph = self._graph
        tokens, positions = (self._by_role[None, f"embedding.{name}"] for name in ("token", "position"))
        x = self._products.look_up(ids, self._values(tokens)["embeddings"], tokens.path)
        before = 0
        for piece in self._pieces.get(tokens.path, ()):
            if isinstance(piece.effect, LearnedInputs):
                before = len(piece.effect.vectors)
                x = graph.add("Concat", piece.own.rows("vectors", x), x, axis=1)
                if "seen" in piece.own:
                    seen = graph.add("Cast", piece.own.rows("seen", mask), to=INT64)
                else:
                    seen = write_for_each(graph, graph.constant(np.ones((1, before), np.int64)), mask)
                mask = graph.add("Concat", seen, mask, axis=1)
        own = self._positions(positions, x, before)
        return self._norm("embeddings_layer_norm", graph.add("Add", x, own)), mask, before

    def _positions(self, place: Place, x: str, before: int) -> str:
        """Writes the position embeddings of embedded texts, (length, dim) or (batch, length, dim)."""
        graph = self._graph
        table = graph.constant(self._values(place)["embeddings"], place.path)
        length = graph.add(
            "Slice", graph.add("Shape", x), graph.integers(1), graph.integers(2), graph.integers(0)
        )
        pieces = self._pieces.get(place.path, ())
        if any("shift" in piece.own for piece in pieces):
            # Each row counts from its own number; learned vectors that it lacks come first and have no position.
            numbers = graph.add(
                "Range", graph.constant(np.int64(0)), graph.add("Squeeze", length), _one(graph)
            )
            first = graph.add("Cast", pieces[0].own.rows("shift", x), to=INT64)
            first = graph.add("Sub", first, graph.integers(before))
            numbers = graph.add("Max", graph.add("Add", numbers, first), graph.integers(0))
            return graph.add("Gather", table, numbers)
        start = sum(piece.effect.start for piece in pieces if isinstance(piece.effect, PositionShift))
        end = graph.add("Add", length, graph.integers(start))
        return graph.add("Slice", table, graph.integers(start), end, graph.integers(0))

    def write_blocks(
        self, x: str, mask: str, numbers: range, *, first_only: bool = False, before: int = 0
    ) -> str:
        """Writes some of the blocks.

        Args:
            x: Name of their inputs, (batch, length, dim).
            mask: Name of the mask, (batch, length) int64.
            numbers: Numbers of the blocks.
            first_only: As in `write`, if the last block is among them.
            before: Number of learned vectors before the text. They are removed after the last block.

        Returns:
            The name of the outputs, (batch, length or 1, dim).
        """
        graph = self._graph
        is_read = graph.add("Cast", mask, to=FLOAT)
        unread = graph.add("Sub", graph.constant(np.float32(1)), is_read)
        unread = graph.add("Mul", unread, graph.constant(_UNREAD))
        unread = graph.add("Unsqueeze", unread, graph.integers(1, 2))
        for number in numbers:
            with graph.scope(f"block_{number}"):
                is_narrowed = first_only and number == self.blocks - 1
                x = self._block(number, x, mask, unread, first=before if is_narrowed else None)
        if before and not first_only:
            x = graph.add("Slice", x, graph.integers(before), graph.integers(2**31), graph.integers(1))
        return x

    def _block(self, number: int, x: str, mask: str, unread: str, *, first: int | None) -> str:
        """Writes a block; if `first` is a position, only for this one."""
        graph, path = self._graph, f"transformer_layer_{number}"
        pieces = self._pieces.get(path, ())
        attended, x = self._attention(number, x, unread, first)
        x = self._norm(f"{path}/self_attention_layer_norm", graph.add("Add", x, attended))
        wide = self._layer(self._by_role[number, "ffn.up"], x, self._activation)
        narrow = self._layer(self._by_role[number, "ffn.down"], wide, lowest=LOWEST.get(self._activation))
        narrow = self._with_bottlenecks(pieces, "feed-forward", x, narrow)
        total = graph.add("Add", x, narrow)
        norm = f"{path}/feedforward_layer_norm"
        y = self._norm(norm, total)
        changed = self._with_bottlenecks(pieces, "last-norm", y, total)
        if changed != total:
            y = self._norm(norm, changed)
        for piece in pieces:
            if isinstance(piece.effect, Edit):
                y = self._edited(piece.effect, piece.own, y, mask, first)
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
        for piece in self._pieces.get(place.path, ()):
            if isinstance(piece.effect, KeysAndValues):
                key = graph.add("Concat", piece.own.rows("keys", key), key, axis=1)
                value = graph.add("Concat", piece.own.rows("values", value), value, axis=1)
                unread = graph.add("Concat", self._unread_rows(piece, unread), unread, axis=3)
        dim = int(self._base.config["dim"])
        scale = graph.constant(np.float32((dim // self._heads) ** -0.5))
        query = graph.add("Mul", self._by_heads(query, (0, 2, 1, 3)), scale)
        scores = graph.add("MatMul", query, self._by_heads(key, (0, 2, 3, 1)))
        shares = graph.add("Softmax", graph.add("Add", scores, unread), axis=-1)
        mixed = graph.add("MatMul", shares, self._by_heads(value, (0, 2, 1, 3)))
        mixed = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = graph.add("Reshape", mixed, graph.integers(0, 0, dim))
        return self._layer(self._by_role[number, "attention.output"], mixed), asking

    def _unread_rows(self, piece: Piece, unread: str) -> str:
        """Writes what is added to the scores of an effect's learned keys, (batch, 1, 1, rows)."""
        graph = self._graph
        if "seen" in piece.own:
            rows = graph.add("Sub", graph.constant(np.float32(1)), piece.own.rows("seen", unread))
            rows = graph.add("Mul", rows, graph.constant(_UNREAD))
            return graph.add("Unsqueeze", rows, graph.integers(1, 2))
        count = len(piece.effect.keys) if isinstance(piece.effect, KeysAndValues) else 0
        return write_for_each(graph, graph.constant(np.zeros((1, 1, 1, count), np.float32)), unread)

    def _by_heads(self, x: str, axes: tuple[int, ...]) -> str:
        """Writes (batch, length, dim) as (batch, length, heads, dim of a head), with the axes in another order."""
        x = self._graph.add("Reshape", x, self._graph.integers(0, 0, self._heads, -1))
        return self._graph.add("Transpose", x, perm=list(axes))

    def _layer(
        self, place: Place, x: str, activation: str | None = None, *, lowest: float | None = None
    ) -> str:
        """Writes a projection with what acts around it."""
        values = self._values(place)

        def product(inputs: str) -> str:
            # Factors of the inputs may be negative.
            known = lowest if inputs == x else None
            return self._products.multiply(inputs, values["kernel"], f"{place.path}/kernel", lowest=known)

        bias = self._graph.constant(values["bias"], f"{place.path}/bias")
        return self._around(place.path, x, product, bias, activation)

    def _norm(self, path: str, x: str) -> str:
        """Writes a norm with what acts around it."""
        values = self._values(self._places[path])

        def norm(inputs: str) -> str:
            scale, shift = (
                self._graph.constant(values[name], f"{path}/{name}") for name in ("gamma", "beta")
            )
            return self._graph.add(
                "LayerNormalization", inputs, scale, shift, axis=-1, epsilon=self._base.epsilon
            )

        return self._around(path, x, norm)

    def _around(
        self,
        path: str,
        x: str,
        inner: Callable[[str], str],
        bias: str | None = None,
        activation: str | None = None,
    ) -> str:
        pieces = self._pieces.get(path, ())
        if pieces and isinstance(pieces[0].effect, Affine):
            y = write_affine(self._graph, pieces[0].own, x, inner, bias)
        else:
            y = self._graph.add("Add", inner(x), bias) if bias else inner(x)
        return self._with_bottlenecks(pieces, "output", y, write_activation(self._graph, y, activation))

    def _with_bottlenecks(self, pieces: Sequence[Piece], attaches_to: str, read: str, added_to: str) -> str:
        """Writes the bottlenecks of a layer or block that attach to one part of it."""
        graph = self._graph
        for piece in pieces:
            effect = piece.effect
            if isinstance(effect, Bottleneck) and effect.attaches_to == attaches_to:
                # One after another at a layer's output: each reads what the one before left.
                read = added_to if attaches_to == "output" else read
                added_to = graph.add(
                    "Add", added_to, write_bottleneck(graph, piece.own, read, effect.activation)
                )
        return added_to

    def _edited(self, effect: Edit, own: Parameters, y: str, mask: str, first: int | None) -> str:
        graph = self._graph
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

    def _values(self, place: Place) -> Mapping[str, np.ndarray]:
        """Returns the variables of a layer, with those that differ from the base's."""
        changed = self._changed.get(place.path, {})
        if changed.keys() >= place.shapes.keys():
            return changed
        return {**self._base.values(place), **changed}


def _one(graph: GraphWriter) -> str:
    return graph.constant(np.int64(1))
