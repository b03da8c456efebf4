"""BitFit at projections, which PEFT calls BEFT: `beft_bias` (1, out) is added to a projection's output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_peft.core.linear_layers import is_linear
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.bitfit import BitFit

TYPE = "BEFT"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings()


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the vectors as changes of the biases."""
    for module in file.modules:
        if is_linear(module.site.layer):
            yield MethodPiece(BitFit(), module.site, {"bias": module.take("beft_bias")[0]})
        else:
            file.refuse(module, "it is not a projection")


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the biases of projections; BEFT does not support those of norms."""
    for place in adapter.places:
        if is_linear(place.site.layer):
            adapter.put(place, "beft_bias", place.weights["bias"][None])
        else:
            adapter.problems.append(
                f"BEFT adapts only projections, but {place.module} is not one: choose targets without 'norm'"
            )
    return {"target_modules": adapter.targets}
