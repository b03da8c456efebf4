"""Encoded rows, and how they are cut into batches.

Texts of like length share a batch, so little is computed for padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

# Products of about a thousand rows keep two cores busy and stay in their cache.
_TOKENS = 1024
_LEAST_ROWS, _MOST_ROWS = 8, 128


class EncodedRows(Protocol):
    """What is cut into batches: token ids, or what was computed of them."""

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each row."""

    @property
    def words(self) -> Sequence[np.ndarray] | None:
        """Positions of the words' first tokens, where the rows came in words."""

    @property
    def owners(self) -> np.ndarray | None:
        """Which text each row is of, where texts have several."""

    @property
    def signature(self) -> Any:
        """What a batch is: tensors with None for the axes that vary."""

    def batch(self, rows: np.ndarray) -> Any:
        """Pads some rows to a common length and returns what a model reads."""


def inference_batches(rows: EncodedRows) -> Iterator[tuple[np.ndarray, Any]]:
    """Cuts rows into batches by length, of about as many tokens each.

    Yields:
        The positions of a batch's rows, and its inputs.
    """
    order = np.argsort(rows.lengths, kind="stable")
    start = 0
    while start < len(order):
        # The longest of so many rows decides, and the last is the longest.
        fits = order[start : start + _MOST_ROWS]
        tokens = rows.lengths[fits] * np.arange(1, len(fits) + 1)
        batch = fits[: max(_LEAST_ROWS, int(np.searchsorted(tokens, _TOKENS, side="right")))]
        yield batch, rows.batch(batch)
        start += len(batch)
