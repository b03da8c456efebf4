"""A cache of the frozen blocks' features for recent texts, with a limit in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

import numpy as np

Features = tuple[np.ndarray, ...]
"""The features of one text: an array (tokens, …) per feature."""


class RecentFeatures:
    """A least-recently-used cache of features by text. It is thread-safe.

    Args:
        capacity: Maximum size in bytes.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.nbytes = 0
        self._kept: OrderedDict[Hashable, Features] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, keys: Sequence[Hashable]) -> list[Features | None]:
        """Returns the features of some texts, or None for those that are not cached."""
        if not self.capacity:
            return [None] * len(keys)
        with self._lock:
            found = [self._kept.get(key) for key in keys]
            for key, features in zip(keys, found, strict=True):
                if features is not None:
                    self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, features: Features) -> None:
        """Caches copies of a text's features."""
        size = sum(one.nbytes for one in features)
        if size > self.capacity:
            return
        copies = tuple(one.copy() for one in features)
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = copies
            self.nbytes += size
            while self.nbytes > self.capacity:
                _, gone = self._kept.popitem(last=False)
                self.nbytes -= sum(one.nbytes for one in gone)
