"""Singular value decomposition of matrices, and their best low-rank approximations.

Dropping the smallest singular values gives the nearest matrix of a given rank in the Frobenius norm:
Eckart and Young 1936, https://doi.org/10.1007/BF02288367.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Adapters are stored in float32, so singular values below this fraction of the largest are
# rounding errors.
_ROUNDING = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class DecomposedMatrix:
    """A matrix (in, out) as left · diag(values) · right.

    Attributes:
        left: (in, kept), with orthonormal columns.
        values: All singular values, largest first.
        right: (kept, out), with orthonormal rows.
    """

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray

    @property
    def rank(self) -> int:
        """Number of singular values above the rounding error."""
        return int(np.sum(self.values > _ROUNDING * self.values[0]))

    def error(self, rank: int) -> float:
        """Returns the relative error, in the Frobenius norm, of the nearest matrix of a rank."""
        if rank >= self.rank:
            return 0.0
        return float(np.linalg.norm(self.values[rank:]) / np.linalg.norm(self.values))

    def rank_for(self, error: float) -> int:
        """Returns the smallest rank whose error is at most `error`."""
        return next(rank for rank in range(self.rank + 1) if self.error(rank) <= error)

    def factors(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns balanced factors (in, r) and (r, out) of the nearest matrix of a rank."""
        rank = min(rank, self.rank)
        root = np.sqrt(self.values[:rank])
        return self.left[:, :rank] * root, root[:, None] * self.right[:rank]


def decompose(matrix: np.ndarray, *, keep: int | None = None) -> DecomposedMatrix:
    """Decomposes a matrix.

    Args:
        matrix: (in, out).
        keep: Number of singular vectors to keep; all by default.
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    # Copies, so that the memory of the other vectors is freed.
    return DecomposedMatrix(left[:, :keep].copy(), values, right[:keep].copy())


def decompose_product(a: np.ndarray, b: np.ndarray) -> DecomposedMatrix:
    """Decomposes the product of low-rank factors, (in, r) and (r, out), without forming it.

    With A = Q R and Bᵀ = P S, the product is Q (R Sᵀ) Pᵀ, and R Sᵀ is at most r × r.
    """
    q, r = np.linalg.qr(a)
    p, s = np.linalg.qr(b.T)
    left, values, right = np.linalg.svd(r @ s.T, full_matrices=False)
    return DecomposedMatrix(q @ left, values, right @ p.T)
