"""Norm tuning: `ln_tuning_layers.weight` and `.bias` replace a norm's scale and shift.

In this package, the norm's output is scaled and shifted: γ' = γ g and β' = β g + d.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_peft.core.sites import Site, own_variables
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.norm import NormTuning

TYPE = "LN_TUNING"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings()


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Converts PEFT's scale and shift to changes relative to the base model's."""
    for module in file.modules:
        before = _own(module.site)
        if "gamma" not in before:
            file.refuse(module, "it is not a norm")
            continue
        if not before["gamma"].all():
            file.refuse(module, "its scale in the base contains zeros, which no factor can change")
            continue
        gamma, beta = (module.take(f"ln_tuning_layers.{name}") for name in ("weight", "bias"))
        scale = gamma / before["gamma"]
        yield MethodPiece(NormTuning(), module.site, {"scale": scale, "shift": beta - before["beta"] * scale})


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the scale and shift of the base model's norms with the changes applied."""
    for place in adapter.places:
        before, scale = _own(place.site), place.weights["scale"]
        adapter.put(place, "ln_tuning_layers.weight", before["gamma"] * scale)
        adapter.put(place, "ln_tuning_layers.bias", before["beta"] * scale + place.weights["shift"])
    return {"target_modules": adapter.targets}


def _own(site: Site) -> dict[str, np.ndarray]:
    from keras import ops

    return {variable.name: ops.convert_to_numpy(variable) for variable in own_variables(site.layer)}
