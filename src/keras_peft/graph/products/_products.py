"""Interface of the precisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class Products(Protocol):
    """Writes products with the matrices of an encoder, and look-ups in its token table."""

    def multiply(self, x: str, matrix: np.ndarray, name: str, *, lowest: float | None = None) -> str:
        """Writes a product.

        Args:
            x: Name of a tensor (batch, length, in).
            matrix: The matrix (in, out), float32.
            name: Name of the matrix in the graph.
            lowest: A value that no element of x is below, if known.

        Returns:
            The name of the product, (batch, length, out) float32.
        """

    def look_up(self, ids: str, table: np.ndarray, name: str) -> str:
        """Writes a look-up of rows.

        Args:
            ids: Name of a tensor (batch, length), int64.
            table: The table (rows, dim), float32.
            name: Name of the table in the graph.

        Returns:
            The name of the rows, (batch, length, dim) float32.
        """
