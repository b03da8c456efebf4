"""Storage for the features of texts: arrays in memory or in files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_peft.files import reserve
from keras_peft.runtime.padding import padded
from keras_peft.storage_limits import memory_limit
from keras_peft.training.cache_folder import INDEX

if TYPE_CHECKING:
    from keras_peft.core.model_split import Feature


class FeatureStore:
    """The computed features of distinct texts, in order of length.

    There is one array per feature. It holds the positions of all texts one after the other
    if the feature has a vector per token, one row per text if the feature has a fixed shape,
    and a single row if it is the same for all texts.

    Args:
        features: The features that the trunk computes.
        lengths: Number of tokens of each text, (texts,).
        arrays: One array per feature; empty if they are not computed yet.

    Attributes:
        arrays: One array per feature.
    """

    def __init__(
        self, features: Sequence[Feature], lengths: np.ndarray, arrays: Sequence[np.ndarray] = ()
    ) -> None:
        self.arrays = list(arrays)
        self._features, self._lengths = features, lengths
        self._ends = np.cumsum(lengths)

    def read(self, places: np.ndarray, length: int) -> Iterator[np.ndarray]:
        """Yields the features of some texts, padded with zeros to a common length.

        Args:
            places: Indices of the texts.
            length: The common length, in tokens.
        """
        for feature, array in zip(self._features, self.arrays, strict=True):
            if is_sequence(feature):
                yield padded([array[self._positions(place)] for place in places], length)
            else:
                yield np.asarray(array[places if len(array) == len(self._lengths) else np.zeros_like(places)])

    def write(
        self,
        places: np.ndarray,
        values: Sequence[np.ndarray],
        allocate: Callable[[tuple[int, ...], Any], np.ndarray],
    ) -> None:
        """Stores the features of some texts.

        Args:
            places: Indices of the texts.
            values: One array (texts, …) per feature, padded if it has a vector per token.
            allocate: Creates an array from a shape and a dtype.
        """
        arrays: list[np.ndarray | None] = [*self.arrays] or [None] * len(values)
        self.arrays = [
            self._with_sequences(array, own, places, allocate)
            if is_sequence(feature)
            else self._with_rows(array, own, places, allocate)
            for feature, array, own in zip(self._features, arrays, values, strict=True)
        ]

    def _with_sequences(
        self, array: np.ndarray | None, values: np.ndarray, places: np.ndarray, allocate: Any
    ) -> np.ndarray:
        if array is None:
            array = allocate((int(self._lengths.sum()), *values.shape[2:]), values.dtype)
        for place, own in zip(places, values, strict=True):
            array[self._positions(place)] = own[: self._lengths[place]]
        return array

    def _with_rows(
        self, array: np.ndarray | None, values: np.ndarray, places: np.ndarray, allocate: Any
    ) -> np.ndarray:
        # A feature that is the same for all texts, such as relative positions, is stored once.
        if array is None:
            array = allocate((1, *values.shape[1:]), values.dtype)
            array[0] = values[0]
        if len(array) == 1 and (values == array).all():
            return array
        if len(array) < len(self._lengths):
            first = array
            array = allocate((len(self._lengths), *values.shape[1:]), values.dtype)
            array[:] = first
        array[places] = values
        return array

    def _positions(self, place: int) -> slice:
        return slice(self._ends[place] - self._lengths[place], self._ends[place])


class FeatureFiles:
    """Creates arrays that are stored in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[int, str] = {}

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Creates an array of zeros in its own file.

        Raises:
            OSError: If the disk has no room for it.
        """
        name = f"{len(self._names)}.npy"
        array = np.lib.format.open_memmap(self._folder / name, mode="w+", dtype=dtype, shape=shape)
        reserve(self._folder / name)
        self._names[id(array)] = name
        return array

    def describe(self, arrays: Sequence[np.ndarray]) -> None:
        """Writes the index of the arrays in use and removes all other files."""
        kept = [self._names[id(array)] for array in arrays]
        for array in arrays:
            array.flush()  # type: ignore[attr-defined]
        for name in set(self._names.values()) - set(kept):
            (self._folder / name).unlink()
        (self._folder / INDEX).write_text(json.dumps(kept))


def open_store(folder: Path, features: Sequence[Feature], lengths: np.ndarray) -> FeatureStore | None:
    """Opens cached features.

    Args:
        folder: Folder of the cached features.
        features: The features that the trunk computes.
        lengths: Number of tokens of each text, (texts,).

    Returns:
        The store, or None if there are no features, or none that match.
    """
    most = memory_limit()
    try:
        names = json.loads((folder / INDEX).read_text())
        paths = [folder / str(name) for name in names]
        size = sum(path.stat().st_size for path in paths)
        mode: Literal["r"] | None = "r" if size > most else None
        arrays = [np.load(path, mmap_mode=mode, allow_pickle=False) for path in paths]
    except (OSError, ValueError, TypeError):
        return None
    fits = [
        len(array) == lengths.sum() if is_sequence(feature) else len(array) in (1, len(lengths))
        for feature, array in zip(features, arrays, strict=False)
    ]
    if len(arrays) != len(features) or not all(fits):
        return None
    with suppress(OSError):  # Others may own the cache.
        folder.touch()  # Marks it as most recently used.
    return FeatureStore(features, lengths, arrays)


def is_sequence(feature: Feature) -> bool:
    """Returns whether a feature has a vector per token."""
    return len(feature.shape) > 1 and feature.shape[1] is None
