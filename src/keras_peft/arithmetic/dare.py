"""DARE: drop entries of each update at random, rescale the rest, and add the updates.

Yu et al. 2023, "Language Models are Super Mario: Absorbing Abilities from Homologous
Models as a Free Lunch", https://arxiv.org/abs/2311.03099, equations 1 to 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_peft.arithmetic._decomposition import decompose
from keras_peft.arithmetic._new_adapter import NewAdapter, nearest_lora
from keras_peft.arithmetic._source import Source, updates_of


def combined(sources: Sequence[Source], *, rank: int = 16, density: float = 0.5, seed: int = 0) -> NewAdapter:
    """Combines the updates by DARE, layer by layer, and truncates the result to a rank.

    Each entry of an update is kept with probability `density` and divided by it. With a density of 1
    this is the weighted sum. Random dropping destroys low-rank structure, so the lower the density,
    the less of the result a low rank retains; the reported error shows how much is lost.
    """
    random = np.random.default_rng(seed)
    updates = {}
    for site, matrices in updates_of(sources):
        total = np.zeros_like(matrices[0])
        for source, matrix in zip(sources, matrices, strict=True):
            stays = random.random(matrix.shape) < density
            total += source.weight * matrix * stays / density
        updates[site.key] = decompose(total, keep=rank)
    return nearest_lora(sources[0].all_sites, updates, rank=rank)
