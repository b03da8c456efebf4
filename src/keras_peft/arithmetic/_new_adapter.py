"""A new adapter before it is in the model: where it attaches and what it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from keras_peft.arithmetic._decomposition import DecomposedMatrix
from keras_peft.arithmetic._source import Product
from keras_peft.core.adapter import Placement
from keras_peft.core.method import Method
from keras_peft.core.selection import Selection
from keras_peft.core.sites import Site
from keras_peft.methods.lora import LoRA


@dataclass(frozen=True)
class NewAdapter:
    """A new adapter, its head left out.

    Attributes:
        placements: Its methods and where they attach.
        fill: From its tensors at birth, by key, to those that become others.
        errors: How far each site is from what was asked for, by path.
        rank: Its rank, where it is a LoRA.
    """

    placements: tuple[Placement, ...]
    fill: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    errors: Mapping[str, float]
    rank: int | None = None


def lora_of_products(
    all_sites: Mapping[str, Site], products: Mapping[str, Product], errors: Mapping[str, float] | None = None
) -> NewAdapter:
    """Makes a LoRA of narrow matrices, by the keys of the sites.

    It has the largest width for its rank, and alpha such that s is 1. A direction that a
    site does not need is as in a new LoRA, B zero and A not, so that it can still train.
    """
    rank = max(1, *(a.shape[1] for a, _ in products.values()))
    method = LoRA(rank=rank, alpha=float(rank))

    def fill(birth: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = {}
        for key, (a, b) in products.items():
            place = f"{key}/{method.name}"
            tensors[f"{place}/a"], tensors[f"{place}/b"] = (
                birth[f"{place}/a"].copy(),
                birth[f"{place}/b"].copy(),
            )
            tensors[f"{place}/a"][:, : a.shape[1]] = a
            tensors[f"{place}/b"][: len(b)] = b
        return tensors

    return NewAdapter(
        placements=_placements(method, all_sites, products),
        fill=fill,
        errors={all_sites[key].path: 0.0 if errors is None else errors[key] for key in products},
        rank=rank,
    )


def nearest_lora(
    all_sites: Mapping[str, Site],
    updates: Mapping[str, DecomposedMatrix],
    *,
    rank: int | None = None,
    error: float | None = None,
) -> NewAdapter:
    """Makes the nearest LoRA of a rank, or of the smallest rank whose error is at most `error` at every site."""
    if rank is None:
        rank = max(one.rank if error is None else one.rank_for(error) for one in updates.values())
    return lora_of_products(
        all_sites,
        {key: one.factors(rank) for key, one in updates.items()},
        {key: one.error(rank) for key, one in updates.items()},
    )


def _placements(method: Method, all_sites: Mapping[str, Site], keys: Iterable[str]) -> tuple[Placement, ...]:
    """Selects just these sites, by role and block where that names them and else by path.

    Names that Keras gives by itself differ from one process to the next, so a path is
    the second choice.
    """
    wanted = set(keys)
    chosen: dict[str | tuple[int, ...], list[str]] = {}
    for role in dict.fromkeys(site.role for site in all_sites.values() if site.key in wanted):
        alike = [site for site in all_sites.values() if site.role == role]
        inside = [site for site in alike if site.key in wanted]
        blocks = tuple(sorted({site.block for site in inside if site.block is not None}))
        if role is not None and len(inside) == len(alike):
            chosen.setdefault("all", []).append(role)
        elif role is not None and inside == [site for site in alike if site.block in blocks]:
            chosen.setdefault(blocks, []).append(role)
        else:
            chosen.setdefault("all", []).extend(f"^{re.escape(site.path)}$" for site in inside)
    return tuple(Placement(method, Selection(tuple(targets), layers)) for layers, targets in chosen.items())
