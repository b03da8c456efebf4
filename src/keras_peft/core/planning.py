"""Counts the trainable parameters of an adapted model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import keras

from keras_peft.core.adapter import Adapter
from keras_peft.core.plan import Plan, PlannedSite
from keras_peft.core.select_sites import count_blocks
from keras_peft.core.site_weights import MethodWeights
from keras_peft.core.sites import Site


def make_plan(base: keras.Model, all_sites: Sequence[Site], adapters: Sequence[Adapter]) -> Plan:
    """Counts the trainable parameters of a base with adapters.

    Args:
        base: The base model.
        all_sites: All its sites.
        adapters: The active adapters.
    """
    counts: Counter[str] = Counter()
    touched: set[str] = set()
    added = shared = 0
    for adapter in adapters:
        for weights in adapter.site_weights:
            counts[weights.site.key] += _count(_training(weights))
            touched.add(weights.site.key)
            added += _count(weights.values.values())
        for weights in adapter.shared_weights:
            shared += _count(_training(weights))
            added += _count(weights.values.values())
        for key, variable in adapter.moves.items():
            counts[key.rpartition("/")[0]] += _count([variable])
            touched.add(key.rpartition("/")[0])
    head = sum(_count(a.head.trainable_variables) for a in adapters if a.head is not None)
    body = [site for site in all_sites if site.key in touched and site.role != "head"]
    # Norms may be numbered differently from the blocks that contain them.
    repeated = [site for site in all_sites if site.role in ("block", "attention")] or body
    blocks = count_blocks(repeated)
    first = min((0 if site.block is None else site.block for site in body), default=blocks)
    return Plan(
        method=" + ".join(
            dict.fromkeys(placement.method.name for a in adapters for placement in a.placements)
        )
        or "nothing",
        sites=tuple(
            PlannedSite(site.path, site.role, site.block, counts[site.key])
            for site in all_sites
            if counts[site.key]
        ),
        shared_parameters=shared,
        head_parameters=head,
        total_parameters=base.count_params() + added + head,
        blocks=blocks,
        trunk_blocks=min(first, blocks),
    )


def _training(weights: MethodWeights) -> list[keras.Variable]:
    return [variable for variable in weights.values.values() if variable.trainable]


def _count(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
