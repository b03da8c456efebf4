"""LoRA at a PEFT module that corresponds to several layers: GPT-2's `c_attn` computes query, key and value.

On import, each layer gets the module's A and its own rows of B. Layers that were trained separately have
different A; on export, these are stacked, and B becomes block-diagonal:

    [B_q 0 0; 0 B_k 0; 0 0 B_v] [A_q; A_k; A_v]

This computes the same with the sum of the ranks. On import, matrices of this form are split again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_peft.core.projection import projection
from keras_peft.core.sites import Site
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, Module, Place, Tensors

# Tensors with one row per output.
_BY_OUTPUTS = ("lora_B.weight", "lora_magnitude_vector", "lora_B.bias", "base_layer.bias")
_PLAIN = {"lora_A.weight", "lora_B.weight"}


def apart(file: IncomingAdapter) -> list[Module]:
    """Splits the modules of an adapter that correspond to several layers into one module per layer."""
    modules: list[Module] = []
    for module in file.modules:
        sites = file.names.sites(module.name)
        if len(sites) == 1 or not set(module.tensors) >= _PLAIN:
            modules.append(module)
        else:
            modules += _layers(file, module, sites)
    return modules


def together(places: Iterable[Place], names: Names) -> list[Place]:
    """Joins the places that belong to the same PEFT module.

    Args:
        places: Places of LoRA or DoRA.
        names: Module names of the base model.
    """
    joined: list[Place] = []
    for module, own in by_module(places).items():
        sites = names.sites(module)
        joined += own if len(sites) == 1 else [_joined(module, own, sites)]
    return joined


def by_module(places: Iterable[Place]) -> dict[str, list[Place]]:
    """Groups places by module name."""
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
        file.refuse(module, f"{', '.join(wrong)}, but the base has {sum(outputs)} outputs there")
        return
    split: list[Tensors] = [dict(tensors) for _ in sites]
    for name in tensors:
        if name in _BY_OUTPUTS:
            for own, rows in zip(split, np.split(tensors[name], np.cumsum(outputs)[:-1]), strict=True):
                own[name] = rows
    used = np.array([np.any(own["lora_B.weight"], axis=0) for own in split])
    # A layer whose B is zero can be left out, unless the module has more tensors than A and B.
    if not (used.sum(axis=0) == 1).all() or not (used.any(axis=1).all() or set(tensors) == _PLAIN):
        used[:] = True
    for site, own, columns in zip(sites, split, used, strict=True):
        if columns.any():
            own["lora_A.weight"] = own["lora_A.weight"][columns]
            own["lora_B.weight"] = own["lora_B.weight"][:, columns]
            yield Module(module.name, site, own, whole_rank=len(columns))


def _joined(module: str, own: Sequence[Place], sites: Sequence[Site]) -> Place:
    """Joins the places of a module into one, as if the module were a single layer."""
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
    """Returns the columns of B for a layer's outputs: the place's own B, or zeros for another layer."""
    if place.site.key != site.key:
        return _zeros(place.method.rank, site)
    return np.asarray(place.weights["b"] * np.float32(place.method.scaling / scaling))


def _zeros(rank: int, site: Site) -> np.ndarray:
    return np.zeros((rank, projection(site).outputs), np.float32)


def _lengths(site: Site) -> np.ndarray:
    """Returns the initial magnitude of DoRA, which leaves the layer unchanged."""
    from keras import ops

    return np.asarray(np.linalg.norm(ops.convert_to_numpy(projection(site).matrix()), axis=0))
