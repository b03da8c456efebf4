"""(IA)³: `lora_B` (out, 1) multiplies a layer's output before its activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_peft.interop.adapter_hub import _low_rank
from keras_peft.interop.adapter_hub._places import low_rank_at
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.ia3 import IA3

METHODS = (IA3,)
SETTINGS = Settings(
    used={"alpha": 1, "version": None},
    training=_low_rank.TOLD | {"composition_mode", "dropout"},
    fixed={**_low_rank.FIXED, "r": 1},
)
held_at = low_rank_at
# Roles at which (IA)³ scales the output of a projection.
_ROLES = {"attention.query", "attention.key", "attention.value", "ffn.up"}


def matches(config: Mapping[str, Any]) -> bool:
    """Returns whether a configuration describes scaling vectors."""
    return config.get("architecture") == _low_rank.ARCHITECTURE and config.get("composition_mode") == "scale"


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the scales, and refuses modules whose inputs (IA)³ scales in this package."""
    factor = np.float32(_low_rank.alpha_of(file.config, 1))
    for module in file.modules:
        scale = module.take("lora_B").ravel() * factor
        if module.site.role in _ROLES:
            yield MethodPiece(IA3(), module.site, {"scale": scale})
        else:
            file.refuse(module, "it scales the outputs, but here (IA)³ scales the inputs of such a layer")


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the scales as columns (out, 1)."""
    for place in adapter.places:
        adapter.put(place, "lora_B", place.weights["scale"][:, None])
    return {
        **_low_rank.settings_of(adapter, _ROLES),
        "r": 1,
        "alpha": 1,
        "composition_mode": "scale",
        # AdapterHub warns about any other initialisation.
        "init_weights": "ia3",
    }
