"""TIES: trim each update, elect a sign for each entry, and take the mean of those that have it.

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
    """Merges the updates by TIES, layer by layer, and keeps a rank of what comes out.

    Of each update the share `density` of the largest entries is kept. The sign of an entry
    is that of the weighted sum; the adapters that have another one there, or nothing, are
    left out, and the weighted mean of the others is multiplied by the sum of all weights'
    sizes. With weights that add up to one this is the paper's; where no two adapters differ
    in sign and nothing is trimmed or missing it is the weighted sum.
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
    """Keeps the share of the entries that are largest in size, at least one."""
    dropped = matrix.size - math.ceil(density * matrix.size)
    if dropped == 0:
        return matrix
    trimmed = matrix.copy()
    trimmed.flat[np.argpartition(np.abs(matrix), dropped, axis=None)[:dropped]] = 0
    return trimmed
