"""LoRA at a module that is several layers here: GPT-2's `c_attn` makes query, key and value at once.

On the way in each of the layers has the module's A and its own rows of B. Layers that have trained apart
have an A each. On the way out these lie below one another, and each B beside zeros for the others:

    [B_q 0 0; 0 B_k 0; 0 0 B_v] [A_q; A_k; A_v]

which computes the same with the ranks added up. What has this form is taken apart again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_peft.core.projection import matrix_of, projection
from keras_peft.core.sites import Site
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, Module, Place, Tensors

# What has a row for each output.
_BY_OUTPUTS = ("lora_B.weight", "lora_magnitude_vector", "lora_B.bias", "base_layer.bias")
_PLAIN = {"lora_A.weight", "lora_B.weight"}


def apart(file: IncomingAdapter) -> list[Module]:
    """Returns the modules of a file, those that are several layers once for each layer."""
    modules: list[Module] = []
    for module in file.modules:
        sites = file.names.sites(module.name)
        if len(sites) == 1 or not set(module.tensors) >= _PLAIN:
            modules.append(module)
        else:
            modules += _layers(file, module, sites)
    return modules


def together(places: Iterable[Place], names: Names) -> list[Place]:
    """Puts places that are one module there together.

    Args:
        places: Where LoRA, or DoRA, acts.
        names: The modules of the base.
    """
    joined: list[Place] = []
    for module, own in by_module(places).items():
        sites = names.sites(module)
        joined += own if len(sites) == 1 else [_joined(module, own, sites)]
    return joined


def by_module(places: Iterable[Place]) -> dict[str, list[Place]]:
    """Groups places by their modules."""
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(place.module, []).append(place)
    return groups


def _layers(file: IncomingAdapter, module: Module, sites: Sequence[Site]) -> Iterator[Module]:
    tensors = {name: module.take(name) for name in list(module.tensors)}
    outputs = [projection(site).outputs for site in sites]
    wrong = [
        f"{name} has {len(value)} rows"
        for name, value in tensors.items()
        if name in _BY_OUTPUTS and len(value) != sum(outputs)
    ]
    if wrong:
        file.refuse(module, f"{', '.join(wrong)}, and the base has {sum(outputs)} outputs there")
        return
    split: list[Tensors] = [dict(tensors) for _ in sites]
    for name in tensors:
        if name in _BY_OUTPUTS:
            for own, rows in zip(split, np.split(tensors[name], np.cumsum(outputs)[:-1]), strict=True):
                own[name] = rows
    used = np.array([np.any(own["lora_B.weight"], axis=0) for own in split])
    # A layer that nothing acts on can be left out, unless it has more than A and B.
    if not (used.sum(axis=0) == 1).all() or not (used.any(axis=1).all() or set(tensors) == _PLAIN):
        used[:] = True
    for site, own, columns in zip(sites, split, used, strict=True):
        if columns.any():
            own["lora_A.weight"] = own["lora_A.weight"][columns]
            own["lora_B.weight"] = own["lora_B.weight"][:, columns]
            yield Module(module.name, site, own, whole_rank=len(columns))


def _joined(module: str, own: Sequence[Place], sites: Sequence[Site]) -> Place:
    """Returns one place for those of a module, as if it were one layer."""
    method = own[0].method
    by_site = {place.site.key: place for place in own}
    alike = [np.array_equal(place.weights["a"], own[0].weights["a"]) for place in own]
    if all(alike) and len({place.method.scaling for place in own}) == 1:
        a = own[0].weights["a"]
        b = [
            by_site[site.key].weights["b"] if site.key in by_site else _zeros(method.rank, site)
            for site in sites
        ]
    else:
        a = np.hstack([place.weights["a"] for place in own])
        b = [np.vstack([_rows(place, site, method.scaling) for place in own]) for site in sites]
    rank = a.shape[1]
    grown = rank / method.rank
    alpha = method.alpha * (math.sqrt(grown) if getattr(method, "rank_stabilized", False) else grown)
    weights: dict[str, Any] = {"a": a, "b": np.hstack(b)}
    if "magnitude" in own[0].weights:
        lengths = [
            by_site[site.key].weights["magnitude"] if site.key in by_site else _lengths(site)
            for site in sites
        ]
        weights["magnitude"] = np.concatenate(lengths)
    return Place(
        module, dataclasses.replace(method, rank=rank, alpha=alpha), sites[0], weights, own[0].site_weights
    )


def _rows(place: Place, site: Site, scaling: float) -> np.ndarray:
    """Returns what a place adds to the outputs of a layer: its B, or zeros where it is another layer's."""
    if place.site.key != site.key:
        return _zeros(place.method.rank, site)
    return np.asarray(place.weights["b"] * np.float32(place.method.scaling / scaling))


def _zeros(rank: int, site: Site) -> np.ndarray:
    return np.zeros((rank, projection(site).outputs), np.float32)


def _lengths(site: Site) -> np.ndarray:
    """Returns the magnitude that DoRA starts with, which changes nothing."""
    from keras import ops

    return np.asarray(np.linalg.norm(ops.convert_to_numpy(matrix_of(site)), axis=0))
