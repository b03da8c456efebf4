"""Where AdapterHub keeps its tensors, and which sites these places are here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keras_peft.core.sites import Site
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, Module, Tensors

if TYPE_CHECKING:
    import numpy as np

# What stands between the place and the adapter's name.
BOTTLENECK, LOW_RANK, SHARED = "adapters", "loras", "shared_parameters"
# DistilBERT's blocks have their bottlenecks beside the modules that they follow; elsewhere they lie in the
# module whose last layer is called `dense`.
_FOLLOWED = {"attention_adapters": "attention.out_lin", "output_adapters": "ffn.lin2"}
_LAYER = "dense"


def sorted_by_module(tensors: Tensors, name: str, names: Names) -> tuple[list[Module], Tensors]:
    """Sorts an adapter's tensors by the modules that they follow or change.

    Args:
        tensors: The adapter's.
        name: Its name.
        names: The modules of its base.

    Returns:
        The modules with what is held there by the ends of the names, and the tensors that are no known module's.
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
    """Returns the place of the bottleneck that follows a module."""
    for place, followed in _FOLLOWED.items():
        if module.endswith(f".{followed}"):
            return f"{module.removesuffix(followed)}{place}.{BOTTLENECK}"
    return f"{module.removesuffix(f'.{_LAYER}')}.{BOTTLENECK}"


def block_of(names: Names, site: Site) -> Site:
    """Returns the block that a site lies in."""
    return next(one for one in names.all_sites if one.role == "block" and one.block == site.block)


def low_rank_at(module: str) -> str:
    """Returns the place of what is added to a module or scales it."""
    return f"{module}.{LOW_RANK}"


def take_shared(file: IncomingAdapter, name: str) -> np.ndarray:
    """Takes what all places have in common out of an adapter.

    Raises:
        KeyError: With its name, if it is not there.
    """
    key = next((key for key in file.rest if f".{SHARED}." in key and key.endswith(f".{name}")), None)
    if key is None:
        raise KeyError(f"{SHARED}.{name}")
    return file.rest.pop(key)


def _followed(place: str) -> str:
    start, _, last = place.rpartition(".")
    return f"{start}.{_FOLLOWED[last]}" if last in _FOLLOWED else f"{place}.{_LAYER}"
