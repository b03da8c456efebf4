"""The base: rows of any adapters in, what their heads give out.

Rows whose adapters leave the same lower blocks alone share these: each different text
goes through them once. Above them the rows of a kind run together, each with its own
weights. The heads are computed for each adapter by itself, whatever its labels.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import keras
import keras_hub  # noqa: F401  (sources import it, which takes long; here a server tells of it)
import numpy as np
from keras import ops

from keras_peft import bases, methods, sources
from keras_peft.core.adapter import Part, refuse_unfit
from keras_peft.core.hold import Attachments, Hold
from keras_peft.core.intercept import CALLING
from keras_peft.core.kind import Kind
from keras_peft.core.narrow import narrow
from keras_peft.core.precision import lowered
from keras_peft.core.sites import Site, find_sites
from keras_peft.core.trunk import Split, split
from keras_peft.errors import BundleMismatch
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.padding import padded_length
from keras_peft.serve.bundle_files import read_tensors
from keras_peft.serve.trunk_cache import TrunkCache

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.serve.loaded import Row
    from keras_peft.serve.settings import ServeSettings
    from keras_peft.sources import Base

# Kinds without adapters that are kept, since an adapter that is loaded again needs its kind at once.
_KEPT_KINDS = 16


# What the keys of the head's tensors begin with.
_HEAD = "head/"


@dataclass(frozen=True, eq=False)
class Weights:
    """What is made of a bundle's tensors.

    Attributes:
        kind: What they have in common with those of the same methods at the same sites.
        packed: The tensors of the methods, packed by the kind, (size,) float32.
        head: The tensors of the head, float32, by their keys without `head/`.
    """

    kind: ServedKind
    packed: np.ndarray
    head: Mapping[str, np.ndarray]

    @property
    def bytes(self) -> int:
        """The memory that they take."""
        return int(self.packed.nbytes) + sum(value.nbytes for value in self.head.values())


def start(base: str, settings: ServeSettings) -> Engine:
    """Makes the engine of a server; call it before Keras computes anything.

    Args:
        base: The base, as `sources.load` takes it.
        settings: What the server was told.

    Raises:
        BaseError: If the base cannot be had.
    """
    workers = share_processors(settings.workers)
    return Engine(
        sources.load(base),
        trunk_cache_mb=settings.trunk_cache_mb,
        precision=settings.precision,
        workers=workers,
    )


def share_processors(workers: int) -> int:
    """Gives each worker a processor of its own; call it before TensorFlow computes anything.

    Batches are small: two that run beside one another, each on one processor, take less time
    than one after the other, each on both.

    Args:
        workers: How many there shall be; 0 for as many as there are processors, where TensorFlow
            computes on these, and one elsewhere.

    Returns:
        How many there are to be.
    """
    if keras.config.backend() != "tensorflow":
        return workers or 1
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return workers or 1
    workers = workers or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0])
    if workers > 1:
        # Where TensorFlow has computed already, its threads are what they are.
        with suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(workers)
    return workers


class Engine:
    """A frozen base on which rows of many adapters run in one batch.

    Args:
        base: The base; it is frozen from now on.
        trunk_cache_mb: Memory for what the blocks below the adapters gave for recent texts, in
            megabytes; 0 keeps nothing.
        precision: What the frozen matrices multiply in: `"float32"`, or `"bfloat16"`, which is
            faster on processors made for it and rounds the logits.
        workers: How many batches it computes best at the same time; see `share_processors`.

    Attributes:
        base: The base.
        workers: How many batches it computes best at the same time.

    Example:
        >>> engine = Engine(sources.load("minilm"))
        >>> outputs = engine.run([Row(ids, news), Row(ids, mood), Row(other_ids, news)])
    """

    def __init__(
        self, base: Base, *, trunk_cache_mb: int = 0, precision: str = "float32", workers: int = 1
    ) -> None:
        self.base, self.workers = base, workers
        self._hold = Hold(base.encoder)
        self._everywhere = find_sites(base.encoder, bases.roles_of(base.encoder))
        self._narrows = bases.has_norms_after(base.encoder)
        self._lowered = tuple(lowered(self._everywhere, [])) if precision == "bfloat16" else ()
        # Those with adapters live as long as these.
        self._kinds: weakref.WeakValueDictionary[tuple[tuple[Part, ...], bool], ServedKind] = (
            weakref.WeakValueDictionary()
        )
        self._recent: deque[ServedKind] = deque(maxlen=_KEPT_KINDS)
        self._trunks: dict[Hashable, Trunk] = {}
        self._cache = TrunkCache(trunk_cache_mb << 20)
        self._making = threading.Lock()

    def load(self, bundle: Bundle) -> Weights:
        """Reads the tensors of a bundle and traces what runs them; see `Engine.load` of `_engine.py`."""
        task = bundle.task()
        parts = methods.parts_from_config(bundle.content["parts"])
        if problem := self._problem_with_length(bundle, parts):
            raise BundleMismatch(problem)
        tensors = read_tensors(bundle)
        kind = self.kind(parts, first_position_only=task.first_position_only)
        head_shapes = task.head_shapes(self.base.dim)
        refuse_unfit(tensors, {**kind.shapes, **{_HEAD + key: shape for key, shape in head_shapes.items()}})
        # Only now: what is traced has the size that the bundle's options ask for.
        kind.warm_up()
        return Weights(
            kind,
            kind.pack({key: value for key, value in tensors.items() if not key.startswith(_HEAD)}),
            {key: np.array(tensors[_HEAD + key], np.float32) for key in head_shapes},
        )

    def group(self, row: Row) -> Hashable:
        """Returns the blocks below a row's adapter; rows that share these run together."""
        return _weights(row).kind.trunk

    def kind(self, parts: Sequence[Part], *, first_position_only: bool) -> ServedKind:
        """Returns what adapters of the same methods at the same sites have in common.

        Its rows run at once after `warm_up`, which takes about a second the first time.

        Args:
            parts: The methods with their selections.
            first_position_only: Whether the heads read the vector of the first token alone.

        Raises:
            AdapterError: If rows of such adapters cannot share a batch.
            SelectionError: If a target or a layer matches nothing in the base.
        """
        key = (tuple(parts), first_position_only)
        with self._making:
            if (found := self._kinds.get(key)) is None:
                found = self._kinds[key] = self._make(*key)
            if found in self._recent:
                self._recent.remove(found)
            self._recent.append(found)
            return found

    def run(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """Answers rows of any adapters.

        Args:
            rows: The rows.

        Returns:
            What the head of each gives, float32: (outputs,), or (tokens, outputs) where the
            task reads words.
        """
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
        made = [_weights(row) for row in rows]
        for trunk, numbers in _grouped(range(len(rows)), lambda number: made[number].kind.trunk):
            texts: dict[bytes, tuple[int, np.ndarray]] = {}
            places = {}
            for number in numbers:
                ids = rows[number].ids
                places[number] = texts.setdefault(ids.tobytes(), (len(texts), ids))[0]
            features = trunk.run([ids for _, ids in texts.values()], list(texts))
            for kind, own in _grouped(numbers, lambda number: made[number].kind):
                vectors = kind.run(
                    features, [places[number] for number in own], [made[number].packed for number in own]
                )
                by_adapter = _grouped(range(len(own)), lambda place, own=own: rows[own[place]].adapter)
                for adapter, at in by_adapter:
                    answers = adapter.task.answer(vectors[at], adapter.weights.head)
                    for place, answer in zip(at, answers, strict=True):
                        number = own[place]
                        is_long = adapter.task.per_word
                        found[number] = answer[: len(rows[number].ids)] if is_long else answer
        return found

    def _problem_with_length(self, bundle: Bundle, parts: Sequence[Part]) -> str | None:
        taken = sum(part.method.extra_positions for part in parts)
        longest = self.base.max_length - taken
        asked = bundle.content["max_length"]
        if asked <= longest:
            return None
        return f"It reads up to {asked} tokens of a text; the base reads {longest} beside {taken} of its own."

    def _make(self, parts: tuple[Part, ...], first_position_only: bool) -> ServedKind:
        encoder = self.base.encoder
        kind = Kind(self._everywhere, parts)
        outermost = narrow(self._everywhere, kind.sites) if self._narrows and first_position_only else []
        parted = split(encoder, [*(site.layer for site in kind.sites), *(layer for layer, _ in outermost)])
        frontier = None if parted is None else parted.frontier
        if frontier not in self._trunks:
            self._trunks[frontier] = Trunk(encoder, self._hold, parted, self._lowered, self._cache)
        # An adapter reckons with the layers that it acts on as they are.
        touched = {id(site.layer) for site in kind.sites}
        innermost = [(layer, around) for layer, around in self._lowered if id(layer) not in touched]
        trunk = self._trunks[frontier]
        return ServedKind(
            self._everywhere,
            parts,
            trunk,
            encoder,
            self._hold,
            parted,
            innermost=innermost,
            outermost=outermost,
        )


def _weights(row: Row) -> Weights:
    return cast("Weights", row.adapter.weights)


class Trunk:
    """The blocks below the adapters of some kinds; where there are none, the padded ids themselves.

    Args:
        encoder: The base's model.
        hold: What holds it.
        parted: Its two parts, or None where all of it lies above.
        around: What is around its layers.
        cache: Where features of recent texts are kept.
    """

    def __init__(
        self, encoder: keras.Model, hold: Hold, parted: Split | None, around: Attachments, cache: TrunkCache
    ) -> None:
        self._names = [tensor.name for tensor in keras.tree.flatten(encoder.input)]
        self._cache = cache
        self._run: Inference | None = None
        self._raw: list[int | None] = list(range(len(self._names)))
        self._keeps = False
        if parted is not None:
            signature = dict.fromkeys(self._names, keras.KerasTensor((None, None), "int32"))
            self._run = Inference(_TrunkModel(encoder, hold, parted, around), signature)
            self._raw = [feature.raw for feature in parted.features]
            computed = [feature.shape for feature in parted.features if feature.raw is None]
            # What has one vector for each token is the same whatever the text is padded to.
            self._keeps = all(shape[:2] == (None, None) and None not in shape[2:] for shape in computed)

    def run(self, texts: Sequence[np.ndarray], keys: Sequence[bytes]) -> list[np.ndarray]:
        """Computes the features of some texts.

        Args:
            texts: The token ids of each.
            keys: The same as bytes.

        Returns:
            For each feature that the top reads an array (texts, length, …).
        """
        inputs = _padded(texts)
        raw = [inputs[name] for name in self._names]
        computed = iter(self._computed(texts, keys, inputs))
        return [next(computed) if place is None else raw[place] for place in self._raw]

    def _computed(
        self, texts: Sequence[np.ndarray], keys: Sequence[bytes], inputs: dict[str, np.ndarray]
    ) -> list[np.ndarray]:
        if self._run is None:
            return []
        kept = self._cache.get([(self, key) for key in keys]) if self._keeps else [None] * len(keys)
        missing = [place for place, features in enumerate(kept) if features is None]
        if len(missing) == len(texts):
            found = self._run(inputs)
        else:
            own = self._run(_padded([texts[place] for place in missing])) if missing else []
            found = _composed(next(one for one in kept if one is not None), inputs["token_ids"].shape)
            for place, features in enumerate(kept):
                for whole, part in zip(found, features or (), strict=False):
                    whole[place, : len(part)] = part
            for whole, computed in zip(found, own, strict=False):
                for place, part in zip(missing, computed, strict=False):
                    length = len(texts[place])
                    whole[place, :length] = part[:length]
        if self._keeps and self._cache.capacity:
            for place in missing:
                length = len(texts[place])
                self._cache.put((self, keys[place]), tuple(one[place, :length] for one in found))
        return list(found)


class ServedKind(Kind):
    """A kind of adapters whose rows are run.

    Args:
        everywhere: All sites of the base.
        parts: The methods with their selections.
        trunk: What lies below them.
        encoder: The base's model.
        hold: What holds it.
        parted: The two parts of the encoder, or None where all of it lies above.
        innermost: What is around the base's layers inside of the adapters.
        outermost: What is around the adapters themselves.
    """

    def __init__(
        self,
        everywhere: Sequence[Site],
        parts: Sequence[Part],
        trunk: Trunk,
        encoder: keras.Model,
        hold: Hold,
        parted: Split | None,
        *,
        innermost: Attachments = (),
        outermost: Attachments = (),
    ) -> None:
        super().__init__(everywhere, parts)
        self.trunk = trunk
        self._warming, self._is_warm = threading.Lock(), False
        model = _TopModel(encoder, hold, self, parted, innermost, outermost)
        features = (
            [keras.KerasTensor(one.shape, one.dtype) for one in parted.features]
            if parted is not None
            else [keras.KerasTensor((None, None), "int32")] * len(keras.tree.flatten(encoder.input))
        )
        signature = {"features": features, "places": keras.KerasTensor((None,), "int32")}
        # Rows of one adapter take its weights without an axis of the rows, which is faster.
        self._alone = Inference(model, {**signature, "packed": keras.KerasTensor((self.size,), "float32")})
        self._mixed = Inference(
            model, {**signature, "packed": keras.KerasTensor((None, self.size), "float32")}
        )

    def run(
        self, features: Sequence[np.ndarray], places: Sequence[int], weights: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Runs rows through what lies above the trunk.

        Args:
            features: From the trunk.
            places: The text of each row, by its place in the features.
            weights: The packed weights of each row's adapter; all are of this kind.

        Returns:
            The encoder's vectors, (rows, length, dim) float32; those of the first position
            alone where no other is read.
        """
        rows = len(places)
        at = np.array([*places, *[places[-1]] * (_padded_rows(rows) - rows)], np.int32)
        inputs = {"features": list(features), "places": at}
        if all(one is weights[0] for one in weights):
            vectors = self._alone({**inputs, "packed": weights[0]})
        else:
            packed = np.stack([*weights, *[weights[-1]] * (len(at) - rows)])
            vectors = self._mixed({**inputs, "packed": packed})
        return np.asarray(vectors[:rows], np.float32)

    def warm_up(self) -> None:
        """Traces both ways for rows to run; a second time does nothing. From any thread."""
        with self._warming:
            if not self._is_warm:
                self._trace()
                self._is_warm = True

    def _trace(self) -> None:
        texts = [np.array([1, 2, 3], np.int32), np.array([1, 2], np.int32)]
        features = self.trunk.run(texts, [b"", b""])
        weights = [np.zeros(self.size, np.float32) for _ in texts]
        for each in (weights, weights[:1] * 2):
            self.run(features, [0, 1], each)


class _TrunkModel(keras.Model):
    """The part of an encoder below some layers, as a model."""

    def __init__(self, encoder: keras.Model, hold: Hold, parted: Split, around: Attachments) -> None:
        super().__init__(name=f"{encoder.name}_trunk")
        self.base, self._hold, self._parted, self._around = encoder, hold, parted, tuple(around)
        _ready(self)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        with CALLING, self._hold.attached(self._around):
            features = self._parted.trunk(inputs)
        return [
            one for one, feature in zip(features, self._parted.features, strict=True) if feature.raw is None
        ]


class _TopModel(keras.Model):
    """What lies above the trunk, with the weights of a kind's adapters among its inputs."""

    def __init__(
        self,
        encoder: keras.Model,
        hold: Hold,
        kind: Kind,
        parted: Split | None,
        innermost: Attachments,
        outermost: Attachments,
    ) -> None:
        super().__init__(name=f"{encoder.name}_top")
        self.base, self._hold, self._kind, self._parted = encoder, hold, kind, parted
        self._innermost, self._outermost = tuple(innermost), tuple(outermost)
        _ready(self)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features = [ops.take(one, inputs["places"], axis=0) for one in inputs["features"]]
        around = [*self._innermost, *self._kind.arounds(inputs["packed"]), *self._outermost]
        with CALLING, self._hold.attached(around):
            if self._parted is not None:
                return self._parted.top(features)
            return self.base(keras.tree.pack_sequence_as(self.base.input, features), training=False)


def _ready(model: keras.Model) -> None:
    model.built = True
    model.compile(jit_compile=False if keras.config.backend() == "tensorflow" else "auto")


def _padded(texts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Pads token ids to a common length, and the texts to a number that is compiled for."""
    shape = (_padded_rows(len(texts)), padded_length(max(map(len, texts))))
    token_ids, padding_mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for place, ids in enumerate(texts):
        token_ids[place, : len(ids)] = ids
        padding_mask[place, : len(ids)] = 1
    return {"token_ids": token_ids, "padding_mask": padding_mask}


def _padded_rows(rows: int) -> int:
    """Returns so many rows, or the next power of two where the backend compiles for each number."""
    return rows if keras.config.backend() != "jax" else 1 << (rows - 1).bit_length()


def _composed(example: Sequence[np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    return [np.zeros((*shape, *one.shape[1:]), one.dtype) for one in example]


def _grouped(items: Any, key: Any) -> list[tuple[Any, list[int]]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.items())
