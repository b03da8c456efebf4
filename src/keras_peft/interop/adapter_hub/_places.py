"""AdapterHub's tensor names, and the sites that they refer to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keras_peft.core.sites import Site
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, Module, Tensors

if TYPE_CHECKING:
    import numpy as np

# Parts of a tensor's name between its place and the adapter's name.
BOTTLENECK, LOW_RANK, SHARED = "adapters", "loras", "shared_parameters"
# In DistilBERT, a bottleneck is a module of the block; in other architectures it is in the same module as the
# `dense` layer that it follows.
_FOLLOWED = {"attention_adapters": "attention.out_lin", "output_adapters": "ffn.lin2"}
_LAYER = "dense"


def sorted_by_module(tensors: Tensors, name: str, names: Names) -> tuple[list[Module], Tensors]:
    """Groups an adapter's tensors by the modules that they follow or change.

    Args:
        tensors: The adapter's tensors by name.
        name: Name of the adapter.
        names: Module names of the base model.

    Returns:
        The modules with their tensors by name suffix, and the tensors of unknown modules.
    """
    pattern = re.compile(
        rf"^(?P<place>.+)\.(?P<what>{BOTTLENECK}|{LOW_RANK})\.{re.escape(name)}\.(?P<rest>.+)$"
    )
    modules: dict[str, Module] = {}
    rest: Tensors = {}
    for key, value in tensors.items():
        found = pattern.match(key)
        module = found and (found["place"] if found["what"] == LOW_RANK else _followed(found["place"]))
        site = module and names.site(module)
        if found and module and site:
            modules.setdefault(module, Module(module, site, {})).tensors[found["rest"]] = value
        else:
            rest[key] = value
    return list(modules.values()), rest


def bottleneck_at(module: str) -> str:
    """Returns the tensor name prefix of the bottleneck that follows a module."""
    for place, followed in _FOLLOWED.items():
        if module.endswith(f".{followed}"):
            return f"{module.removesuffix(followed)}{place}.{BOTTLENECK}"
    return f"{module.removesuffix(f'.{_LAYER}')}.{BOTTLENECK}"


def block_of(names: Names, site: Site) -> Site:
    """Returns the block that contains a site."""
    return next(one for one in names.all_sites if one.role == "block" and one.block == site.block)


def low_rank_at(module: str) -> str:
    """Returns the tensor name prefix of the LoRA or (IA)³ of a module."""
    return f"{module}.{LOW_RANK}"


def take_shared(file: IncomingAdapter, name: str) -> np.ndarray:
    """Removes and returns a shared tensor of an adapter.

    Raises:
        KeyError: With the tensor's name, if it is missing.
    """
    key = next((key for key in file.rest if f".{SHARED}." in key and key.endswith(f".{name}")), None)
    if key is None:
        raise KeyError(f"{SHARED}.{name}")
    return file.rest.pop(key)


def _followed(place: str) -> str:
    start, _, last = place.rpartition(".")
    return f"{start}.{_FOLLOWED[last]}" if last in _FOLLOWED else f"{place}.{_LAYER}"
