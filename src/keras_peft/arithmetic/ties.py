"""TIES: trim each update, elect a sign for each entry, and average the entries with that sign.

Yadav et al. 2023, "TIES-Merging: Resolving Interference When Merging Models",
https://arxiv.org/abs/2306.01708, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_peft.arithmetic._decomposition import decompose
from keras_peft.arithmetic._new_adapter import NewAdapter, nearest_lora
from keras_peft.arithmetic._source import Source, updates_of


def combined(sources: Sequence[Source], *, rank: int = 16, density: float = 0.2) -> NewAdapter:
    """Combines the updates by TIES, layer by layer, and truncates the result to a rank.

    The fraction `density` of each update's entries that are largest in size is kept. The elected sign
    of an entry is that of the weighted sum. Adapters with another sign there, or with zero, are left
    out, and the weighted mean of the others is multiplied by the sum of the absolute weights. If the
    weights sum to one, this equals the paper's method. If no signs differ and nothing is trimmed or
    missing, it is the weighted sum.
    """
    weights = np.array([source.weight for source in sources])
    updates = {
        site.key: decompose(_merged(matrices, weights, density), keep=rank)
        for site, matrices in updates_of(sources)
    }
    return nearest_lora(sources[0].all_sites, updates, rank=rank)


def _merged(matrices: Sequence[np.ndarray], weights: np.ndarray, density: float) -> np.ndarray:
    sizes = np.abs(weights)[:, None, None]
    weighted = np.stack([_trimmed(matrix, density) for matrix in matrices]) * weights[:, None, None]
    elected = np.sign(weighted.sum(axis=0))
    agrees = (np.sign(weighted) == elected) & (weighted != 0)
    kept = (sizes * agrees).sum(axis=0)
    total = (weighted * agrees).sum(axis=0)
    return np.asarray(sizes.sum() * np.divide(total, kept, out=np.zeros_like(total), where=kept > 0))


def _trimmed(matrix: np.ndarray, density: float) -> np.ndarray:
    """Keeps the fraction of entries that are largest in size, at least one."""
    dropped = matrix.size - math.ceil(density * matrix.size)
    if dropped == 0:
        return matrix
    trimmed = matrix.copy()
    trimmed.flat[np.argpartition(np.abs(matrix), dropped, axis=None)[:dropped]] = 0
    return trimmed
