"""A new adapter before it is inserted into the model: its placements and tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from keras_peft.arithmetic._decomposition import DecomposedMatrix
from keras_peft.arithmetic._source import Product
from keras_peft.core.method import Method
from keras_peft.core.placement import Placement
from keras_peft.core.selection import Selection
from keras_peft.core.sites import Site
from keras_peft.methods.lora import LoRA


@dataclass(frozen=True)
class NewAdapter:
    """A new adapter without its head.

    Attributes:
        placements: Its methods and the layers that they attach to.
        fill: Maps its initial tensors, by key, to the tensors that replace them.
        errors: Relative error of each site, by path.
        rank: Its rank, if it is a LoRA.
    """

    placements: tuple[Placement, ...]
    fill: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    errors: Mapping[str, float]
    rank: int | None = None


def lora_of_products(
    all_sites: Mapping[str, Site], products: Mapping[str, Product], errors: Mapping[str, float] | None = None
) -> NewAdapter:
    """Creates a LoRA from low-rank factors by site key.

    Its rank is the largest one among the sites, and alpha is set so that the scale s is 1. Directions
    that a site does not need are initialised as in a new LoRA, with B zero and A not, so they can still be
    trained.
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
    """Creates the nearest LoRA of a rank, or of the smallest rank with at most `error` at every site."""
    if rank is None:
        rank = max(one.rank if error is None else one.rank_for(error) for one in updates.values())
    return lora_of_products(
        all_sites,
        {key: one.factors(rank) for key, one in updates.items()},
        {key: one.error(rank) for key, one in updates.items()},
    )


def _placements(method: Method, all_sites: Mapping[str, Site], keys: Iterable[str]) -> tuple[Placement, ...]:
    """Selects exactly these sites, by role and block if possible, else by path.

    Automatic Keras names differ between processes, so paths are the second choice.
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
