"""Encoded rows, and how they are divided into batches.

Texts of similar length share a batch, which reduces computation on padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

# Matrix products with about a thousand rows keep two cores busy and fit in their cache.
_TOKENS = 1024
_LEAST_ROWS, _MOST_ROWS = 8, 128


class EncodedRows(Protocol):
    """Rows that can be batched: token ids, or features computed from them."""

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens in each row."""

    @property
    def words(self) -> Sequence[np.ndarray] | None:
        """Positions of the words' first tokens, if the rows consist of words."""

    @property
    def owners(self) -> np.ndarray | None:
        """Index of each row's text, if texts have several rows."""

    @property
    def signature(self) -> Any:
        """The structure of a batch, as tensors with None for variable axes."""

    def batch(self, rows: np.ndarray) -> Any:
        """Pads the given rows to a common length and returns the model's inputs."""


class Subset:
    """Some texts of encoded rows, with the same interface.

    Args:
        rows: The rows.
        texts: Indices of the texts, ascending.
    """

    def __init__(self, rows: EncodedRows, texts: np.ndarray) -> None:
        self._rows = rows
        owners = rows.owners
        self._places = texts if owners is None else np.flatnonzero(np.isin(owners, texts))
        self.lengths = rows.lengths[self._places]
        self.words = None if rows.words is None else [rows.words[place] for place in self._places.tolist()]
        self.owners = None if owners is None else np.searchsorted(texts, owners[self._places])

    @property
    def signature(self) -> Any:
        """The structure of a batch, as tensors with None for variable axes."""
        return self._rows.signature

    def batch(self, rows: np.ndarray) -> Any:
        """Pads the given rows to a common length and returns the model's inputs."""
        return self._rows.batch(self._places[rows])


def inference_batches(rows: EncodedRows) -> Iterator[tuple[np.ndarray, Any]]:
    """Divides rows into batches; see `row_batches`.

    Yields:
        The indices of a batch's rows, and its inputs.
    """
    for batch in row_batches(rows.lengths):
        yield batch, rows.batch(batch)


def row_batches(lengths: np.ndarray) -> list[np.ndarray]:
    """Divides rows into batches by length, with about the same number of tokens each.

    Args:
        lengths: Number of tokens of each row, (rows,).

    Returns:
        The indices of each batch's rows.
    """
    order = np.argsort(lengths, kind="stable")
    batches: list[np.ndarray] = []
    start = 0
    while start < len(order):
        # The longest row sets the padded length; rows are sorted, so it is the last one.
        fits = order[start : start + _MOST_ROWS]
        tokens = lengths[fits] * np.arange(1, len(fits) + 1)
        batches.append(fits[: max(_LEAST_ROWS, int(np.searchsorted(tokens, _TOKENS, side="right")))])
        start += len(batches[-1])
    return batches
