"""(IA)³: `ia3_l` is the scale, (out, 1) for outputs and (1, in) for inputs.

A site's role decides whether its inputs or outputs are scaled; in PEFT, `feedforward_modules` does.
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
# Roles at which (IA)³ scales the input of a projection.
_INPUTS = ("ffn.down", "attention.output")


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the scales, and refuses modules that are scaled on the other side."""
    for module in file.modules:
        scale = module.take("ia3_l")
        if (len(scale) == 1) != (module.site.role in _INPUTS):
            file.refuse(module, "it is scaled on the other side than (IA)³ scales it here")
        else:
            yield MethodPiece(IA3(), module.site, {"scale": scale.ravel()})


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the scales, and lists the modules with scaled inputs as feed-forward modules."""
    inputs = [place for place in adapter.places if place.site.role in _INPUTS]
    for place in adapter.places:
        scale = place.weights["scale"]
        adapter.put(place, "ia3_l", scale[None] if place in inputs else scale[:, None])
    return {
        "target_modules": adapter.targets,
        "feedforward_modules": adapter.names.targets(place.module for place in inputs),
    }
