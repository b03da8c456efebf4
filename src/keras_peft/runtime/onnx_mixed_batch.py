"""A base model on ONNX Runtime that runs rows of any adapters in one batch.

Rows whose adapters leave the same lower blocks unchanged share these blocks: each distinct text passes through them
once. Above them, rows of adapters of one layout run together, each with its own tensors. An adapter that changes
whole matrices has blocks of its own there.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.errors import AdapterError
from keras_peft.graph.acting import HEAD, Acting, resolve
from keras_peft.graph.names import ADAPTER, FEATURES, IDS, MASK, PLACES, VECTORS
from keras_peft.graph.shared import lowest_block, top_graph, trunk_graph
from keras_peft.graph.slots import Layout, slot_tensors
from keras_peft.runtime.onnx_session import Session
from keras_peft.runtime.onnx_slots import Slots
from keras_peft.runtime.padding import padded, token_inputs
from keras_peft.runtime.recent import RecentFeatures

if TYPE_CHECKING:
    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.core.head_task import HeadTask
    from keras_peft.core.placement import Placement
    from keras_peft.graph.products._products import Products
    from keras_peft.graph.writer import Graph, GraphWriter


@dataclass(frozen=True, eq=False)
class SlottedAdapter:
    """An adapter whose rows run in a batch with those of others.

    Attributes:
        task: The task of its head.
        top: The blocks above its trunk.
        slot: Number of its slot there.
        head: The float32 tensors of its head, by key without `head/`.
    """

    task: HeadTask
    top: _Top
    slot: int
    head: Mapping[str, np.ndarray]

    @property
    def bytes(self) -> int:
        """Memory used by its tensors, in bytes."""
        return self.top.bytes_each + sum(value.nbytes for value in self.head.values())


class OnnxMixedBatchBase:
    """A frozen base model that runs rows of many adapters in one batch. It is thread-safe.

    Args:
        base: The weights of the base model.
        products: How matrices are stored and multiplied.
        recent_bytes: Memory for cached outputs of the lower blocks for recent texts, in bytes; 0 disables the
            cache.
        threads: Number of threads for each batch.

    Example:
        >>> base = OnnxMixedBatchBase(sources.load_weights("minilm"), float32.Products)
        >>> news = base.load(placements, tensors, task)
        >>> outputs = base.run([ids, other_ids], [news, news])
    """

    def __init__(
        self,
        base: EncoderWeights,
        products: Callable[[GraphWriter], Products],
        *,
        recent_bytes: int = 0,
        threads: int = 1,
    ) -> None:
        self._base, self._products, self._threads = base, products, threads
        self._blocks = int(base.config["n_layers"])
        self._recent = RecentFeatures(recent_bytes)
        self._trunks: dict[int, Session] = {}
        self._tops: weakref.WeakValueDictionary[tuple[Any, ...], _Top] = weakref.WeakValueDictionary()
        self._making = threading.Lock()

    def load(
        self, placements: Sequence[Placement], tensors: Mapping[str, np.ndarray], task: HeadTask
    ) -> SlottedAdapter:
        """Loads an adapter.

        Args:
            placements: Its methods, with their selections.
            tensors: Its tensors by their keys in a file, including the head's.
            task: The task of its head.

        Raises:
            AdapterError: If the tensors do not fit, or the adapter cannot be written as a graph.
            SelectionError: If a target or a layer matches nothing.
        """
        acting = self._resolved(placements, tensors, task.head_shapes(self._base.dim))
        layout = Layout.of(acting.effects)
        with self._making:
            top = None if acting.changed else self._tops.get((layout.key, task.pooling))
            if top is None:
                top = self._make(acting, layout, task.pooling)
                if not acting.changed:  # Changed blocks belong to one adapter.
                    self._tops[layout.key, task.pooling] = top
        head = {
            key.removeprefix(HEAD): np.array(value, np.float32)
            for key, value in tensors.items()
            if key.startswith(HEAD)
        }
        slot = top.slots.add(slot_tensors(acting.effects))
        loaded = SlottedAdapter(task, top, slot, head)
        weakref.finalize(loaded, top.slots.remove, slot)
        return loaded

    def run(self, rows: Sequence[np.ndarray], adapters: Sequence[SlottedAdapter]) -> list[np.ndarray]:
        """Computes the outputs of rows with any adapters.

        Args:
            rows: The token ids of each row, including special tokens, (tokens,) int32.
            adapters: The adapter of each row.

        Returns:
            The head outputs of each row, float32: (outputs,), or (tokens, outputs) if the task reads words.
        """
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
        for trunk, numbers in _grouped(range(len(rows)), lambda number: adapters[number].top.start):
            texts: dict[bytes, tuple[int, np.ndarray]] = {}
            places = {
                number: texts.setdefault(rows[number].tobytes(), (len(texts), rows[number]))[0]
                for number in numbers
            }
            inputs = self._inputs(trunk, [ids for _, ids in texts.values()], list(texts))
            for top, own in _grouped(numbers, lambda number: adapters[number].top):
                vectors = top.run(
                    inputs, [places[number] for number in own], [adapters[number].slot for number in own]
                )
                for adapter, at in _grouped(range(len(own)), lambda place, own=own: adapters[own[place]]):
                    answers = adapter.task.apply_head(vectors[at], adapter.head)
                    for place, answer in zip(at, answers, strict=True):
                        number = own[place]
                        found[number] = answer[: len(rows[number])] if adapter.task.per_word else answer
        return found

    def _resolved(
        self,
        placements: Sequence[Placement],
        tensors: Mapping[str, np.ndarray],
        head_shapes: Mapping[str, tuple[int, ...]],
    ) -> Acting:
        """Resolves an adapter to effects, or to changed variables if it has no such form."""
        with suppress(AdapterError):
            acting = resolve(self._base, placements, tensors, head_shapes, merges=False)
            if not acting.changed:
                return acting
        return resolve(self._base, placements, tensors, head_shapes, merges=True)

    def _make(self, acting: Acting, layout: Layout, pooling: str | None) -> _Top:
        start = lowest_block(acting.effects, acting.changed, self._blocks)
        if start is not None and start not in self._trunks:
            graph = trunk_graph(self._base, start, self._products)
            self._trunks[start] = self._session(graph)
        graph = top_graph(self._base, start, layout, acting.changed, pooling, self._products)
        return _Top(start, self._session(graph), Slots(layout.shapes))

    def _session(self, graph: Graph) -> Session:
        return Session(graph.to_reference(), graph.constants, threads=self._threads)

    def _inputs(
        self, start: int | None, texts: Sequence[np.ndarray], keys: Sequence[bytes]
    ) -> dict[str, np.ndarray]:
        """Returns what the tops read of some texts: their features or ids, and the mask."""
        given = token_inputs(texts)
        ids, mask = (given[name].astype(np.int64) for name in ("token_ids", "padding_mask"))
        if start is None:
            return {IDS: ids, MASK: mask}
        return {FEATURES: self._features(start, texts, keys, ids, mask), MASK: mask}

    def _features(
        self,
        start: int,
        texts: Sequence[np.ndarray],
        keys: Sequence[bytes],
        ids: np.ndarray,
        mask: np.ndarray,
    ) -> np.ndarray:
        kept = self._recent.get([(start, key) for key in keys])
        missing = [place for place, features in enumerate(kept) if features is None]
        found: list[np.ndarray] = [one[0] if one else np.empty(0) for one in kept]
        if missing:
            length = max(len(texts[place]) for place in missing)
            feed = {IDS: ids[missing, :length], MASK: mask[missing, :length]}
            computed = self._trunks[start].run(FEATURES, feed)
            if len(missing) == len(texts) and length == ids.shape[1] and not self._recent.capacity:
                return computed
            for place, own in zip(missing, computed, strict=True):
                found[place] = own[: len(texts[place])]
                self._recent.put((start, keys[place]), (found[place],))
        return padded(found, ids.shape[1])


class _Top:
    """The blocks above a trunk, for adapters of one layout.

    Args:
        start: Number of blocks in the trunk; None if there is none.
        session: The session of the graph.
        slots: The tensors of the adapters.
    """

    def __init__(self, start: int | None, session: Session, slots: Slots) -> None:
        self.start, self.slots, self._session = start, slots, session

    @property
    def bytes_each(self) -> int:
        """Memory of one adapter, in bytes."""
        return self.slots.bytes_each

    def run(
        self, inputs: Mapping[str, np.ndarray], places: Sequence[int], slots: Sequence[int]
    ) -> np.ndarray:
        """Computes the vectors that the heads read, (rows, length or 1, dim)."""
        own = {**inputs, PLACES: np.array(places, np.int64), ADAPTER: np.array(slots, np.int64)}
        return self._session.run(VECTORS, own, self.slots.values())


def _grouped(numbers: Iterable[int], key: Any) -> list[tuple[Any, list[int]]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for number in numbers:
        groups[key(number)].append(number)
    return list(groups.items())
