"""SVD: the nearest matrix of rank r to Σ wᵢ ΔWᵢ, in every layer.

Eckart and Young 1936, "The approximation of one matrix by another of lower rank",
https://doi.org/10.1007/BF02288367.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_peft.arithmetic._decomposition import decompose
from keras_peft.arithmetic._new_adapter import NewAdapter, nearest_lora
from keras_peft.arithmetic._source import Source, narrow_updates_of, updates_of


def combined(sources: Sequence[Source], *, rank: int = 16) -> NewAdapter:
    """Adds the updates of adapters of any methods that merge, and truncates the sum to a rank."""
    updates = narrow_updates_of(sources)
    if updates is None:
        updates = {
            site.key: decompose(_sum(sources, matrices), keep=rank) for site, matrices in updates_of(sources)
        }
    return nearest_lora(sources[0].all_sites, updates, rank=rank)


def _sum(sources: Sequence[Source], matrices: Sequence[np.ndarray]) -> np.ndarray:
    total = np.zeros_like(matrices[0])
    for source, matrix in zip(sources, matrices, strict=True):
        total += source.weight * matrix
    return total
