"""Token ids to features: what the frozen trunk gives for each row, computed once and kept.

Every text is computed once, whichever set it is in, and what comes out is kept in
half precision under a fingerprint of all that it depends on. The next run on the
same texts, with another seed, rate or head, finds it there.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.files import whole_folder
from keras_peft.inputs.tokens import Tokens
from keras_peft.progress import Progress
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.padding import padded_length
from keras_peft.runtime.rows import inference_batches
from keras_peft.stopwatch import Stopwatch
from keras_peft.store import Collector, arrays
from keras_peft.training.cache_folder import INDEX, remove_oldest, trunk_folder

if TYPE_CHECKING:
    import keras

    from keras_peft.core.trunk import Feature, Split

# What is larger is read from the disk as it is needed.
IN_MEMORY = 1 << 30
# What was used longest ago is removed when the whole cache is larger.
MOST_KEPT = 8 << 30
_FORMAT = 2
_DIGEST = 16


@dataclass(frozen=True)
class Cached:
    """What the cache did for a run.

    Attributes:
        rows: Number of different texts.
        bytes: Size of their features.
        hit: Whether they were there already.
    """

    rows: int
    bytes: int
    hit: bool


class Features:
    """The features of some rows, cut into batches as `Tokens` are.

    Attributes:
        lengths: Number of tokens of each row.
        words: Positions of the words' first tokens, where the rows came in words.
        owners: Which text each row is of, where texts have several.
    """

    def __init__(self, tokens: Tokens, parts: Split, store: _Store, places: np.ndarray) -> None:
        self._tokens, self._parts, self._store, self._places = tokens, parts, store, places
        self.lengths, self.words, self.owners = tokens.lengths, tokens.words, tokens.owners

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def signature(self) -> tuple[keras.KerasTensor, ...]:
        """What a batch is, with None for the axes that vary."""
        import keras

        computed = iter(self._store.arrays)
        return tuple(
            keras.KerasTensor(
                (None, *feature.shape[1:]),
                str(next(computed).dtype) if feature.raw is None else feature.dtype,
            )
            for feature in self._parts.features
        )

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns what the top reads, padded to a common length."""
        inputs = [value for _, value in sorted(self._tokens.batch(rows).items())]
        length = padded_length(int(self.lengths[rows].max()))
        computed = iter(self._store.arrays)
        return tuple(
            self._store.read(next(computed), feature, self._places[rows], length)
            if feature.raw is None
            else inputs[feature.raw]
            for feature in self._parts.features
        )


def compute_features(
    base: keras.Model,
    parts: Split,
    sets: Sequence[Tokens],
    *,
    fingerprint: Sequence[str],
    progress: Progress,
    stopwatch: Stopwatch,
) -> tuple[list[Features], Cached] | None:
    """Computes what the trunk gives for each text, or finds it in the cache.

    Args:
        base: The model that is parted, from {token_ids, padding_mask}.
        parts: Its two parts.
        sets: The rows to train on, then those that are only scored, in as many sets as
            are needed.
        fingerprint: What the features depend on beside the texts: the base's weights,
            what lies in the trunk, versions.
        progress: Told of the rows that are computed.
        stopwatch: Counts the rows that are only scored, by their tokens, under "evaluate",
            as all scoring is.

    Returns:
        The features of each set, and what the cache did; None where there is no room for
        so many.
    """
    unique, places = _unique(sets)
    if _size(parts, unique, "float16") > MOST_KEPT:
        return None
    key = _key(fingerprint, parts, unique)
    folder = trunk_folder() / key
    store = _open(folder, parts, unique)
    hit = store is not None
    if store is None:
        scored = np.setdiff1d(np.arange(len(unique)), places[0])
        progress.trunk_started(rows=len(unique))
        try:
            store = _make(_Trunk(base, parts, unique, scored, progress, stopwatch), folder)
        finally:
            progress.trunk_finished()
    if store is None:
        return None
    size = sum(array.nbytes for array in store.arrays)
    features = [Features(tokens, parts, store, own) for tokens, own in zip(sets, places, strict=True)]
    return features, Cached(len(unique), size, hit)


class _Store:
    """The computed features, each text once, in the order of their lengths.

    There is one array for each feature: of all positions one after the other where
    it has a vector for each token, of all rows where it has one shape, and of a
    single row where it is the same for all.
    """

    def __init__(self, lengths: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = list(arrays)
        self._lengths = lengths
        self._ends = np.cumsum(lengths)

    def read(self, array: np.ndarray, feature: Feature, places: np.ndarray, length: int) -> np.ndarray:
        """Copies rows of a feature, with zeros up to a common length."""
        if not _is_sequence(feature):
            return np.asarray(array[places if len(array) == len(self._lengths) else np.zeros_like(places)])
        rows = np.zeros((len(places), length, *array.shape[1:]), array.dtype)
        for row, place in enumerate(places):
            end, own = self._ends[place], self._lengths[place]
            rows[row, :own] = array[end - own : end]
        return rows


class _Files:
    """Makes arrays that lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[int, str] = {}

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        name = f"{len(self._names)}.npy"
        array = np.lib.format.open_memmap(self._folder / name, mode="w+", dtype=dtype, shape=shape)
        self._names[id(array)] = name
        return array

    def describe(self, arrays: Sequence[np.ndarray]) -> None:
        """Writes which files are the features, and removes the others."""
        kept = [self._names[id(array)] for array in arrays]
        for array in arrays:
            array.flush()  # type: ignore[attr-defined]
        for name in set(self._names.values()) - set(kept):
            (self._folder / name).unlink()
        (self._folder / INDEX).write_text(json.dumps(kept))


def _open(folder: Path, parts: Split, texts: Tokens) -> _Store | None:
    """Opens kept features; None where there are none, or none that fit."""
    try:
        names = json.loads((folder / INDEX).read_text())
        paths = [folder / str(name) for name in names]
        size = sum(path.stat().st_size for path in paths)
        arrays = [
            np.load(path, mmap_mode="r" if size > IN_MEMORY else None, allow_pickle=False) for path in paths
        ]
    except (OSError, ValueError, TypeError):
        return None
    computed = [feature for feature in parts.features if feature.raw is None]
    fits = [
        len(array) == texts.lengths.sum() if _is_sequence(feature) else len(array) in (1, len(texts))
        for feature, array in zip(computed, arrays, strict=False)
    ]
    if len(arrays) != len(computed) or not all(fits):
        return None
    folder.touch()  # It was used last.
    return _Store(texts.lengths, arrays)


def _make(trunk: _Trunk, folder: Path) -> _Store | None:
    """Computes features and keeps them, in the folder or, where that cannot be written, in memory.

    Returns:
        None where they are too large for that.
    """
    for dtype in ("float16", "float32"):
        run = trunk.compiled(dtype)
        with suppress(_Overflow):
            try:
                with whole_folder(folder, overwrite=True) as staging:
                    files = _Files(staging)
                    files.describe(trunk.compute(run, files))
                remove_oldest(most=MOST_KEPT)
                if store := _open(folder, trunk.parts, trunk.texts):
                    return store
            except OSError:  # No room, or no right to write there.
                pass
            if _size(trunk.parts, trunk.texts, dtype) > IN_MEMORY:
                return None
            return _Store(trunk.texts.lengths, trunk.compute(run, np.zeros))
    raise FloatingPointError("The trunk gives values that are not finite.")


@dataclass(frozen=True)
class _Trunk:
    """What computes the features of all texts.

    Attributes:
        base: The model that is parted.
        parts: Its two parts.
        texts: The different texts, by length.
        scored: Positions of those that are not trained on.
        progress: Told of the rows.
        stopwatch: Told what those that are only scored took.
    """

    base: keras.Model
    parts: Split
    texts: Tokens
    scored: np.ndarray
    progress: Progress
    stopwatch: Stopwatch

    def compiled(self, dtype: str) -> Callable[[Any], list[np.ndarray]]:
        """Makes a function from a batch of inputs to the features that the trunk computes."""
        import keras

        parts = self.parts

        class Trunk(keras.Model):
            def call(self, inputs: Any) -> list[Any]:
                features = zip(parts.trunk(inputs), parts.features, strict=True)
                return [
                    keras.ops.cast(value, dtype) if keras.backend.is_float_dtype(feature.dtype) else value
                    for value, feature in features
                    if feature.raw is None
                ]

        model = Trunk(name="trunk")
        model.base = self.base  # So that its weights are known to be the model's.
        model.built = True
        return Inference(model, self.texts.signature)

    def compute(
        self,
        run: Callable[[Any], list[np.ndarray]],
        allocate: Callable[[tuple[int, ...], Any], np.ndarray],
    ) -> list[np.ndarray]:
        """Runs the trunk over all texts."""
        computed = [feature for feature in self.parts.features if feature.raw is None]
        arrays: list[np.ndarray | None] = [None] * len(computed)
        began = time.perf_counter()
        for rows, inputs in inference_batches(self.texts):
            for number, (feature, values) in enumerate(zip(computed, run(inputs), strict=True)):
                if not np.isfinite(values).all():
                    raise _Overflow
                put = _put_sequences if _is_sequence(feature) else _put_rows
                arrays[number] = put(arrays[number], values, rows, self.texts.lengths, allocate)
            self.progress.trunk_computed(rows=len(rows))
        # They share batches with the others, so that what is kept does not depend on the split.
        share = self.texts.lengths[self.scored].sum() / self.texts.lengths.sum()
        self.stopwatch.count("evaluate", share * (time.perf_counter() - began))
        return [array for array in arrays if array is not None]


def _put_sequences(
    array: np.ndarray | None, values: np.ndarray, rows: np.ndarray, lengths: np.ndarray, allocate: Any
) -> np.ndarray:
    if array is None:
        array = allocate((int(lengths.sum()), *values.shape[2:]), values.dtype)
    ends = np.cumsum(lengths)
    for row, own in zip(rows, values, strict=True):
        array[ends[row] - lengths[row] : ends[row]] = own[: lengths[row]]
    return array


def _put_rows(
    array: np.ndarray | None, values: np.ndarray, rows: np.ndarray, lengths: np.ndarray, allocate: Any
) -> np.ndarray:
    # What does not depend on the text, as a table of relative positions, is kept once.
    if array is None:
        array = allocate((1, *values.shape[1:]), values.dtype)
        array[0] = values[0]
    if len(array) == 1 and (values == array).all():
        return array
    if len(array) < len(lengths):
        first = array
        array = allocate((len(lengths), *values.shape[1:]), values.dtype)
        array[:] = first
    array[rows] = values
    return array


class _Overflow(Exception):
    """A value is too large for the type that it is kept in."""


def _unique(sets: Sequence[Tokens]) -> tuple[Tokens, list[np.ndarray]]:
    """Gathers the different texts by length, and says which of them each row is."""
    keys = np.fromiter((_order(ids) for tokens in sets for ids in tokens.ids), f"S{4 + _DIGEST}")
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    starts = np.cumsum([0, *map(len, sets)])
    unique = Collector(arrays(np.int32))
    for row, side in zip(first, np.searchsorted(starts, first, side="right") - 1, strict=True):
        unique.add(sets[side].ids[row - starts[side]])
    return Tokens(unique.done(), 0), np.split(places, starts[1:-1])


def _order(ids: np.ndarray) -> bytes:
    """What puts texts in order by length, and is the same for the same text alone."""
    return len(ids).to_bytes(4, "big") + hashlib.blake2b(ids.tobytes(), digest_size=_DIGEST).digest()


def _key(fingerprint: Sequence[str], parts: Split, texts: Tokens) -> str:
    # Keras numbers layers without a name over the whole process, so names say nothing here.
    layers = [type(layer).__name__ for layer in parts.below]
    described = [_FORMAT, *fingerprint, layers, str(parts.features)]
    digest = hashlib.sha256(json.dumps(described).encode())
    digest.update(texts.lengths.tobytes())
    for ids in texts.ids:
        digest.update(ids.tobytes())
    return digest.hexdigest()[:32]


def _size(parts: Split, texts: Tokens, dtype: str) -> int:
    """The bytes of what there is a vector of for each token, which is nearly all."""
    width = sum(
        math.prod(length or 1 for length in feature.shape[2:])
        for feature in parts.features
        if feature.raw is None and _is_sequence(feature)
    )
    return int(texts.lengths.sum()) * width * np.dtype(dtype).itemsize


def _is_sequence(feature: Feature) -> bool:
    return len(feature.shape) > 1 and feature.shape[1] is None
