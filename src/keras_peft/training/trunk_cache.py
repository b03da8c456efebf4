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
from keras_peft.runtime.rows import inference_batches
from keras_peft.runtime.trunk_runner import TrunkRunner, computed_features
from keras_peft.stopwatch import Stopwatch
from keras_peft.store import Collector, arrays
from keras_peft.training.cache_folder import remove_oldest, trunk_folder
from keras_peft.training.feature_store import (
    IN_MEMORY,
    FeatureFiles,
    FeatureStore,
    is_sequence,
    open_store,
)
from keras_peft.training.features import Features

if TYPE_CHECKING:
    import keras

    from keras_peft.core.model_split import ModelSplit

# What was used longest ago is removed when the whole cache is larger.
MOST_KEPT = 8 << 30
_FORMAT = 2
_DIGEST = 16


@dataclass(frozen=True)
class TrunkCacheUse:
    """What the cache did for a run.

    Attributes:
        rows: Number of different texts.
        bytes: Size of their features.
        hit: Whether they were there already.
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
) -> tuple[list[Features], TrunkCacheUse] | None:
    """Computes what the trunk gives for each text, or finds it in the cache.

    Args:
        base: The model that is parted, from {token_ids, padding_mask}.
        split: Its two parts.
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
    if _size(split, unique, "float16") > MOST_KEPT:
        return None
    key = _key(fingerprint, split, unique)
    folder = trunk_folder() / key
    store = open_store(folder, computed_features(split), unique.lengths)
    hit = store is not None
    if store is None:
        scored = np.setdiff1d(np.arange(len(unique)), places[0])
        progress.trunk_started(rows=len(unique))
        try:
            store = _Job(base, split, unique, scored, progress, stopwatch).keep(folder)
        finally:
            progress.trunk_finished()
    if store is None:
        return None
    size = sum(array.nbytes for array in store.arrays)
    features = [Features(tokens, split, store, own) for tokens, own in zip(sets, places, strict=True)]
    return features, TrunkCacheUse(len(unique), size, hit)


@dataclass(frozen=True)
class _Job:
    """The features of all texts, to be computed.

    Attributes:
        base: The model that is parted.
        split: Its two parts.
        texts: The different texts, by length.
        scored: Positions of those that are not trained on.
        progress: Told of the rows.
        stopwatch: Told what those that are only scored took.
    """

    base: keras.Model
    split: ModelSplit
    texts: Tokens
    scored: np.ndarray
    progress: Progress
    stopwatch: Stopwatch

    def keep(self, folder: Path) -> FeatureStore | None:
        """Computes features and keeps them, in the folder or, where that cannot be written, in memory.

        Returns:
            None where they are too large for that.
        """
        features = computed_features(self.split)
        for dtype in ("float16", "float32"):
            trunk = TrunkRunner(self.base, self.split, self.texts.signature, dtype=dtype)
            with suppress(_Overflow):
                try:
                    with whole_folder(folder, overwrite=True) as staging:
                        files = FeatureFiles(staging)
                        files.describe(self._compute(trunk, files.allocate).arrays)
                    remove_oldest(most=MOST_KEPT)
                    if store := open_store(folder, features, self.texts.lengths):
                        return store
                except OSError:  # No room, or no right to write there.
                    pass
                if _size(self.split, self.texts, dtype) > IN_MEMORY:
                    return None
                return self._compute(trunk, np.zeros)
        raise FloatingPointError("The trunk gives values that are not finite.")

    def _compute(
        self, trunk: TrunkRunner, allocate: Callable[[tuple[int, ...], Any], np.ndarray]
    ) -> FeatureStore:
        store = FeatureStore(computed_features(self.split), self.texts.lengths)
        began = time.perf_counter()
        for rows, inputs in inference_batches(self.texts):
            features = trunk(inputs)
            if not all(np.isfinite(values).all() for values in features):
                raise _Overflow
            store.write(rows, features, allocate)
            self.progress.trunk_computed(rows=len(rows))
        # They share batches with the others, so that what is kept does not depend on the split.
        share = self.texts.lengths[self.scored].sum() / self.texts.lengths.sum()
        self.stopwatch.count("evaluate", share * (time.perf_counter() - began))
        return store


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


def _key(fingerprint: Sequence[str], split: ModelSplit, texts: Tokens) -> str:
    # Keras numbers layers without a name over the whole process, so names say nothing here.
    layers = [type(layer).__name__ for layer in split.below]
    described = [_FORMAT, *fingerprint, layers, str(split.features)]
    digest = hashlib.sha256(json.dumps(described).encode())
    digest.update(texts.lengths.tobytes())
    for ids in texts.ids:
        digest.update(ids.tobytes())
    return digest.hexdigest()[:32]


def _size(split: ModelSplit, texts: Tokens, dtype: str) -> int:
    """The bytes of what there is a vector of for each token, which is nearly all."""
    width = sum(
        math.prod(length or 1 for length in feature.shape[2:])
        for feature in computed_features(split)
        if is_sequence(feature)
    )
    return int(texts.lengths.sum()) * width * np.dtype(dtype).itemsize
