"""The features of many texts as arrays, in memory or in the files of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.runtime.padding import padded
from keras_peft.training.cache_folder import INDEX

if TYPE_CHECKING:
    from keras_peft.core.model_split import Feature

# What is larger is read from the disk as it is needed.
IN_MEMORY = 1 << 30


class FeatureStore:
    """The computed features, each text once, in the order of their lengths.

    There is one array for each feature: of all positions one after the other where
    it has a vector for each token, of all rows where it has one shape, and of a
    single row where it is the same for all.

    Args:
        features: The features that the trunk computes.
        lengths: Number of tokens of each text, (texts,).
        arrays: Those of the features; none where they are still to be computed.

    Attributes:
        arrays: The same.
    """

    def __init__(
        self, features: Sequence[Feature], lengths: np.ndarray, arrays: Sequence[np.ndarray] = ()
    ) -> None:
        self.arrays = list(arrays)
        self._features, self._lengths = features, lengths
        self._ends = np.cumsum(lengths)

    def read(self, places: np.ndarray, length: int) -> Iterator[np.ndarray]:
        """Copies the features of some texts, with zeros up to a common length."""
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
        """Takes the features of some texts over.

        Args:
            places: The texts.
            values: For each feature an array (texts, …), padded where it has a vector for each token.
            allocate: Makes an array of a shape and a type where one is needed.
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
        # What does not depend on the text, as a table of relative positions, is kept once.
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
    """Makes arrays that lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[int, str] = {}

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Makes an array of zeros in a file of its own."""
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


def open_store(folder: Path, features: Sequence[Feature], lengths: np.ndarray) -> FeatureStore | None:
    """Opens kept features; None where there are none, or none that fit.

    Args:
        folder: Where they lie.
        features: Those that the trunk computes.
        lengths: Number of tokens of each text, (texts,).
    """
    try:
        names = json.loads((folder / INDEX).read_text())
        paths = [folder / str(name) for name in names]
        size = sum(path.stat().st_size for path in paths)
        arrays = [
            np.load(path, mmap_mode="r" if size > IN_MEMORY else None, allow_pickle=False) for path in paths
        ]
    except (OSError, ValueError, TypeError):
        return None
    fits = [
        len(array) == lengths.sum() if is_sequence(feature) else len(array) in (1, len(lengths))
        for feature, array in zip(features, arrays, strict=False)
    ]
    if len(arrays) != len(features) or not all(fits):
        return None
    folder.touch()  # It was used last.
    return FeatureStore(features, lengths, arrays)


def is_sequence(feature: Feature) -> bool:
    """Tells whether a feature has a vector for each token."""
    return len(feature.shape) > 1 and feature.shape[1] is None
