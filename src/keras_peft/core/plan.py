"""The plan of an adapted model: its trainable parameters, where they are, and their share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras

from keras_peft.core.adapter import Adapter
from keras_peft.core.select_sites import count_blocks
from keras_peft.core.site_weights import MethodWeights
from keras_peft.core.sites import Site


@dataclass(frozen=True)
class PlannedSite:
    """One row of a plan: a site and its number of trainable parameters.

    Attributes:
        path: Path of the layer.
        role: Role of the layer, or None if unknown.
        block: Index of its block, or None.
        parameters: Number of trainable parameters.
    """

    path: str
    role: str | None
    block: int | None
    parameters: int


@dataclass(frozen=True)
class Plan:
    """The trainable parameters of an adapted model, where they are, and their share of all.

    Attributes:
        method: Names of the methods, joined with " + ".
        sites: The sites with trainable parameters.
        shared_parameters: Trainable parameters that sites share.
        head_parameters: Trainable parameters of a head on top of the base.
        total_parameters: All parameters, including those of adapter and head.
        blocks: Number of blocks in the base.
        trunk_blocks: Number of blocks below the first trained layer.
    """

    method: str
    sites: tuple[PlannedSite, ...]
    shared_parameters: int
    head_parameters: int
    total_parameters: int
    blocks: int
    trunk_blocks: int

    @property
    def trainable_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(site.parameters for site in self.sites) + self.shared_parameters + self.head_parameters

    def __str__(self) -> str:
        width = max([len(site.path) for site in self.sites] + [4])
        lines = [f"{self.method} trains {self.share()}"]
        lines += [
            f"  {site.path:<{width}}  {site.role or '':<16}  {site.parameters:>12,}" for site in self.sites
        ]
        for name, count in (("shared", self.shared_parameters), ("head", self.head_parameters)):
            if count:
                lines.append(f"  {name:<{width}}  {'':<16}  {count:>12,}")
        if self.blocks:
            lines.append(f"  frozen below: {self.trunk_blocks} of {self.blocks} blocks")
        return "\n".join(lines)

    def share(self) -> str:
        """Returns the trainable share, such as "172,932 of 22,860,036 parameters (0.76%)"."""
        share = self.trainable_parameters / self.total_parameters
        return f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters ({share:.2%})"


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
