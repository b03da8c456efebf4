"""(IA)³: `ia3_l` is the scale, (out, 1) of outputs and (1, in) of inputs.

Whether inputs or outputs are scaled follows from the role here, and there from `feedforward_modules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.ia3 import IA3

TYPE = "IA3"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings()
# Where it scales what a projection reads.
_INPUTS = ("ffn.down", "attention.output")


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Refuses what is scaled on the other side."""
    for module in file.modules:
        scale = module.take("ia3_l")
        if (len(scale) == 1) != (module.site.role in _INPUTS):
            file.refuse(module, "it is scaled on the other side than (IA)³ here does it")
        else:
            yield MethodPiece(IA3(), module.site, {"scale": scale.ravel()})


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Names the feed-forward modules among the targets."""
    inputs = [place for place in adapter.places if place.site.role in _INPUTS]
    for place in adapter.places:
        scale = place.weights["scale"]
        adapter.put(place, "ia3_l", scale[None] if place in inputs else scale[:, None])
    return {
        "target_modules": adapter.targets,
        "feedforward_modules": adapter.names.targets(place.module for place in inputs),
    }
