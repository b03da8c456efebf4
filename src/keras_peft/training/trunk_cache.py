"""The trunk cache: features of the frozen trunk, computed once per text and stored.

Each distinct text is computed once, even if it is in several sets. The features are
stored in half precision, under a fingerprint of everything they depend on. Later runs on
the same texts reuse them, even with another seed, learning rate or head.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.files import whole_folder
from keras_peft.inputs.tokens import Tokens
from keras_peft.progress import Progress
from keras_peft.runtime.rows import row_batches
from keras_peft.runtime.trunk_runner import TrunkRunner, computed_features
from keras_peft.stopwatch import Stopwatch
from keras_peft.storage_limits import cache_limit, memory_limit
from keras_peft.store import Collector, arrays
from keras_peft.training.cache_folder import remove_oldest, trunk_folder
from keras_peft.training.distributed.processes import Alone, Processes
from keras_peft.training.feature_store import FeatureFiles, FeatureStore, is_sequence, open_store
from keras_peft.training.features import Features

if TYPE_CHECKING:
    import keras

    from keras_peft.core.model_split import ModelSplit

_FORMAT = 2
_DIGEST = 16
# Batches of each process between two exchanges.
_EXCHANGED = 16


@dataclass(frozen=True)
class TrunkCacheUse:
    """How a run used the cache.

    Attributes:
        rows: Number of distinct texts.
        bytes: Size of their features, in bytes.
        hit: Whether the features were already in the cache.
    """

    rows: int
    bytes: int
    hit: bool


def compute_features(
    base: keras.Model,
    split: ModelSplit,
    sets: Sequence[Tokens],
    *,
    fingerprint: Sequence[str],
    progress: Progress,
    stopwatch: Stopwatch,
    processes: Processes | None = None,
) -> tuple[list[Features], TrunkCacheUse] | None:
    """Computes the trunk's features for each text, or reads them from the cache.

    Args:
        base: The model that is split; its inputs are {token_ids, padding_mask}.
        split: Its two parts.
        sets: The training rows, followed by any number of sets that are only scored.
        fingerprint: Everything that the features depend on besides the texts: the base's
            weights, the layers of the trunk, versions.
        progress: Receives progress events.
        stopwatch: Adds the time of rows that are only scored, by their share of the tokens,
            to "evaluate".
        processes: The processes that train together. Each computes a part of the texts, and gets all features.
            By default, this one computes all.

    Returns:
        The features of each set, and how the cache was used; None if there is no room for
        the features.
    """
    processes = processes or Alone()
    unique, places = _unique(sets)
    if _size(split, unique, "float16") > cache_limit():
        return None
    key = _key(fingerprint, split, unique)
    folder = trunk_folder() / key
    store = open_store(folder, computed_features(split), unique.lengths)
    hit = all(processes.gathered(store is not None))
    if store is None or not hit:
        scored = np.setdiff1d(np.arange(len(unique)), places[0])
        progress.trunk_started(rows=len(unique))
        try:
            store = _Job(base, split, unique, scored, progress, stopwatch, processes).keep(folder)
        finally:
            progress.trunk_finished()
    if store is None:
        return None
    size = sum(array.nbytes for array in store.arrays)
    features = [Features(tokens, split, store, own) for tokens, own in zip(sets, places, strict=True)]
    return features, TrunkCacheUse(len(unique), size, hit)


@dataclass(frozen=True)
class _Job:
    """The computation of the features of all texts.

    Attributes:
        base: The model that is split.
        split: Its two parts.
        texts: The distinct texts, by length.
        scored: Indices of the texts that are only scored.
        progress: Receives progress events.
        stopwatch: Measures the share of texts that are only scored.
        processes: The processes that share the computation.
    """

    base: keras.Model
    split: ModelSplit
    texts: Tokens
    scored: np.ndarray
    progress: Progress
    stopwatch: Stopwatch
    processes: Processes

    def keep(self, folder: Path) -> FeatureStore | None:
        """Computes the features and stores them in a folder, or in memory if it is not writable.

        Returns:
            The store, or None if the features are too large for memory.
        """
        features = computed_features(self.split)
        for dtype in ("float16", "float32"):
            trunk = TrunkRunner(self.base, self.split, self.texts.signature, dtype=dtype)
            with suppress(_Overflow):
                try:
                    with whole_folder(folder, overwrite=True) as staging:
                        files = FeatureFiles(staging)
                        files.describe(self._compute(trunk, files.allocate).arrays)
                    # The least recently used features make room.
                    remove_oldest(most=cache_limit(), without=folder)
                    if store := open_store(folder, features, self.texts.lengths):
                        return store
                except OSError:  # No space, or no permission to write.
                    pass
                if _size(self.split, self.texts, dtype) > memory_limit():
                    return None
                return self._compute(trunk, np.zeros)
        raise FloatingPointError("The frozen blocks return values that are not finite.")

    def _compute(
        self, trunk: TrunkRunner, allocate: Callable[[tuple[int, ...], Any], np.ndarray]
    ) -> FeatureStore:
        store = FeatureStore(computed_features(self.split), self.texts.lengths)
        began = time.perf_counter()
        failure: OSError | None = None
        for rows, features in self._batches(trunk):
            if not all(np.isfinite(values).all() for values in features):
                raise _Overflow
            try:
                if failure is None:
                    store.write(rows, features, allocate)
            except OSError as error:
                # The other processes wait for this one's part, so it goes on with the work.
                failure = error
                if self.processes.count == 1:
                    raise
            self.progress.trunk_computed(rows=len(rows))
        if any(self.processes.gathered(failure is not None)):
            raise failure or OSError("another process cannot write the features")
        # All texts share batches, so the cached features do not depend on the validation split.
        share = float(self.texts.lengths[self.scored].sum() / self.texts.lengths.sum())
        self.stopwatch.count("evaluate", share * (time.perf_counter() - began))
        return store

    def _batches(self, trunk: TrunkRunner) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yields the rows of each batch and their features; every process computes a part of the batches."""
        batches, count = row_batches(self.texts.lengths), self.processes.count
        for start in range(0, len(batches), _EXCHANGED * count):
            exchanged = batches[start : start + _EXCHANGED * count]
            own = (trunk(self.texts.batch(rows)) for rows in self.processes.own(exchanged))
            if count == 1:
                yield from zip(exchanged, own, strict=True)
                continue
            computed = self.processes.gathered(list(own))
            for number, rows in enumerate(exchanged):
                yield rows, computed[number % count][number // count]


class _Overflow(Exception):
    """A value is too large for the dtype that it is stored in."""


def _unique(sets: Sequence[Tokens]) -> tuple[Tokens, list[np.ndarray]]:
    """Collects the distinct texts by length, and the index of each row's text among them."""
    keys = np.fromiter((_order(ids) for tokens in sets for ids in tokens.ids), f"S{4 + _DIGEST}")
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    starts = np.cumsum([0, *map(len, sets)])
    unique = Collector(arrays(np.int32))
    for row, side in zip(first, np.searchsorted(starts, first, side="right") - 1, strict=True):
        unique.add(sets[side].ids[row - starts[side]])
    return Tokens(unique.done(), 0), np.split(places, starts[1:-1])


def _order(ids: np.ndarray) -> bytes:
    """Returns a key that sorts texts by length and identifies each distinct text."""
    return len(ids).to_bytes(4, "big") + hashlib.blake2b(ids.tobytes(), digest_size=_DIGEST).digest()


def _key(fingerprint: Sequence[str], split: ModelSplit, texts: Tokens) -> str:
    # Default layer names depend on the layers created before in the process, so omit names.
    layers = [type(layer).__name__ for layer in split.below]
    described = [_FORMAT, *fingerprint, layers, str(split.features)]
    digest = hashlib.sha256(json.dumps(described).encode())
    digest.update(texts.lengths.tobytes())
    for ids in texts.ids:
        digest.update(ids.tobytes())
    return digest.hexdigest()[:32]


def _size(split: ModelSplit, texts: Tokens, dtype: str) -> int:
    """Returns the size in bytes of the features with a vector per token, which dominate."""
    width = sum(
        math.prod(length or 1 for length in feature.shape[2:])
        for feature in computed_features(split)
        if is_sequence(feature)
    )
    return int(texts.lengths.sum()) * width * np.dtype(dtype).itemsize
