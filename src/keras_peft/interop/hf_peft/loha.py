"""LoHa: `hada_w1_b` (r, in) is A1ᵀ and `hada_w1_a` (out, r) is B1ᵀ.

`hada_w2_b` and `hada_w2_a` are A2ᵀ and B2ᵀ in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings, in_pattern
from keras_peft.methods.loha import LoHa

TYPE = "LOHA"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings(
    used={"alpha": 8, "alpha_pattern": {}},
    training=frozenset({"module_dropout", "r", "rank_dropout", "rank_pattern", "use_effective_conv2d"}),
)
_NAMES = {"a1": "hada_w1_b", "b1": "hada_w1_a", "a2": "hada_w2_b", "b2": "hada_w2_a"}


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the factors of each module, with its own rank and alpha."""
    config = file.config
    for module in file.modules:
        weights = {ours: module.take(name).T for ours, name in _NAMES.items()}
        alpha = in_pattern(config["alpha_pattern"], module.name, config["alpha"])
        yield MethodPiece(LoHa(rank=weights["a1"].shape[1], alpha=float(alpha)), module.site, weights)


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the factors; ranks and alphas other than the most frequent ones go into patterns."""
    for place in adapter.places:
        for ours, name in _NAMES.items():
            adapter.put(place, name, place.weights[ours].T)
    rank, ranks = adapter.with_pattern("rank", adapter.places)
    alpha, alphas = adapter.with_pattern("alpha", adapter.places)
    return {
        "target_modules": adapter.targets,
        "r": rank,
        "alpha": alpha,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    }
