"""A frozen base that runs rows of any adapters in one batch.

Rows whose adapters leave the same lower blocks unchanged share these blocks: each distinct text passes
through them once. Above them, rows of one adapter shape run together, each with its own weights. Heads
are computed per adapter, so labels may differ.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_peft import bases
from keras_peft.core.adapter_shape import AdapterShape
from keras_peft.core.base_interception import BaseInterception
from keras_peft.core.first_position import first_position_wrappers
from keras_peft.core.head_task import HeadTask
from keras_peft.core.mixed_batch import PackedModel
from keras_peft.core.model_split import split_model
from keras_peft.core.pooling import FIRST_TOKEN
from keras_peft.core.pooling_layer import pooled
from keras_peft.core.precision import bfloat16_wrappers
from keras_peft.core.sites import find_sites
from keras_peft.runtime.mixed_batch_top import MixedBatchTop
from keras_peft.runtime.padding import token_signature
from keras_peft.runtime.recent import RecentFeatures
from keras_peft.runtime.shared_trunk import SharedTrunk
from keras_peft.runtime.trunk_runner import TrunkRunner

if TYPE_CHECKING:
    from keras_peft.core.placement import Placement

# Unused tops to keep: an adapter that is reloaded needs its top immediately.
_KEPT_TOPS = 16


@dataclass(frozen=True, eq=False)
class PackedAdapter:
    """An adapter whose rows run in a batch with those of others.

    Attributes:
        task: The task of its head.
        top: The top that runs adapters with the same methods at the same sites.
        packed: The tensors of its methods, packed by the top's shape, (size,) float32.
        head: The float32 tensors of its head, by key without `head/`.
    """

    task: HeadTask
    top: MixedBatchTop
    packed: np.ndarray
    head: Mapping[str, np.ndarray]

    @property
    def bytes(self) -> int:
        """Memory used by its tensors, in bytes."""
        return int(self.packed.nbytes) + sum(value.nbytes for value in self.head.values())


class MixedBatchBase:
    """A frozen base that runs rows of many adapters in one batch. It is thread-safe.

    Args:
        encoder: The base's model. It is frozen.
        recent_bytes: Memory for cached trunk features of recent texts, in bytes; 0 disables the
            cache.
        precision: Dtype for products with frozen matrices: `"float32"`, or `"bfloat16"`, which
            is faster on processors with bfloat16 instructions and rounds the logits.

    Example:
        >>> base = MixedBatchBase(sources.load("minilm").encoder)
        >>> top = base.top(placements, pooling="first-token")
        >>> news = PackedAdapter(task, top, top.shape.pack(tensors), head)
        >>> outputs = base.run([ids, other_ids], [news, news])
    """

    def __init__(self, encoder: keras.Model, *, recent_bytes: int = 0, precision: str = "float32") -> None:
        self._encoder, self._interception = encoder, BaseInterception(encoder)
        self._all_sites = find_sites(encoder, bases.roles_of(encoder))
        self._has_norms_after = bases.has_norms_after(encoder)
        self._bfloat16_wrappers = (
            tuple(bfloat16_wrappers(self._all_sites, [])) if precision == "bfloat16" else ()
        )
        # Tops in use are kept alive by their adapters.
        self._tops: weakref.WeakValueDictionary[tuple[tuple[Placement, ...], str | None], MixedBatchTop] = (
            weakref.WeakValueDictionary()
        )
        self._kept: deque[MixedBatchTop] = deque(maxlen=_KEPT_TOPS)
        self._trunks: dict[Hashable, SharedTrunk] = {}
        self._recent = RecentFeatures(recent_bytes)
        self._making = threading.Lock()

    def top(self, placements: Sequence[Placement], *, pooling: str | None) -> MixedBatchTop:
        """Returns the top that runs adapters with the same methods at the same sites.

        Call its `warm_up`, which takes about a second the first time, to run rows without delay.

        Args:
            placements: The methods with their selections.
            pooling: How the heads read the base's vectors; see `attach.adapt`.

        Raises:
            AdapterError: If rows of such adapters cannot share a batch.
            SelectionError: If a target or a layer matches nothing in the base.
        """
        key = (tuple(placements), pooling)
        with self._making:
            if (found := self._tops.get(key)) is None:
                found = self._tops[key] = self._make(*key)
            if found in self._kept:
                self._kept.remove(found)
            self._kept.append(found)
            return found

    def run(self, rows: Sequence[np.ndarray], adapters: Sequence[PackedAdapter]) -> list[np.ndarray]:
        """Computes the outputs of rows with any adapters.

        Args:
            rows: The token ids of each row, including special tokens, (tokens,) int32.
            adapters: The adapter of each row.

        Returns:
            The head outputs of each row, float32: (outputs,), or (tokens, outputs) if the task
            reads words.
        """
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
        for trunk, numbers in _grouped(range(len(rows)), lambda number: adapters[number].top.trunk):
            texts: dict[bytes, tuple[int, np.ndarray]] = {}
            places = {}
            for number in numbers:
                ids = rows[number]
                places[number] = texts.setdefault(ids.tobytes(), (len(texts), ids))[0]
            features = trunk.run([ids for _, ids in texts.values()], list(texts))
            for top, own in _grouped(numbers, lambda number: adapters[number].top):
                vectors = top.run(
                    features, [places[number] for number in own], [adapters[number].packed for number in own]
                )
                by_adapter = _grouped(range(len(own)), lambda place, own=own: adapters[own[place]])
                for adapter, at in by_adapter:
                    answers = adapter.task.apply_head(vectors[at], adapter.head)
                    for place, answer in zip(at, answers, strict=True):
                        number = own[place]
                        found[number] = answer[: len(rows[number])] if adapter.task.per_word else answer
        return found

    def _make(self, placements: tuple[Placement, ...], pooling: str | None) -> MixedBatchTop:
        encoder, shape = pooled(self._encoder, pooling), AdapterShape(self._all_sites, placements)
        outermost = (
            first_position_wrappers(self._all_sites, shape.sites)
            if self._has_norms_after and pooling == FIRST_TOKEN
            else []
        )
        split = split_model(
            encoder, [*(site.layer for site in shape.sites), *(layer for layer, _ in outermost)]
        )
        frontier = None if split is None else split.frontier
        if frontier not in self._trunks:
            attached = partial(self._interception.attached, self._bfloat16_wrappers)
            below = (
                None if split is None else TrunkRunner(encoder, split, token_signature(), attached=attached)
            )
            self._trunks[frontier] = SharedTrunk(split, below, self._recent)
        # Layers that an adapter acts on keep their precision, since it depends on them.
        touched = {id(site.layer) for site in shape.sites}
        innermost = [
            (layer, wrapper) for layer, wrapper in self._bfloat16_wrappers if id(layer) not in touched
        ]
        model = PackedModel(
            encoder, self._interception, shape, split=split, innermost=innermost, outermost=outermost
        )
        return MixedBatchTop(shape, self._trunks[frontier], model, split)


def _grouped(numbers: Iterable[int], key: Any) -> list[tuple[Any, list[int]]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for number in numbers:
        groups[key(number)].append(number)
    return list(groups.items())
