"""LoKr: `lokr_w1` (o1, i1) is Kᵀ; `lokr_w2` (o2, i2) is Cᵀ, or `lokr_w2_b` and `lokr_w2_a` are Aᵀ and Bᵀ.

In this package, the smaller matrix is not factorised. A product in PEFT (`decompose_both`) is multiplied out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings, in_pattern
from keras_peft.methods.lokr import LoKr

TYPE = "LOKR"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings(
    used={"r": 8, "alpha": 8, "rank_pattern": {}, "alpha_pattern": {}, "decompose_factor": -1},
    training=frozenset(
        {"decompose_both", "module_dropout", "rank_dropout", "rank_dropout_scale", "use_effective_conv2d"}
    ),
)


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the matrices. The rank comes from the settings: if C is not factorised, no shape shows it."""
    config = file.config
    factor = config["decompose_factor"]
    for module in file.modules:
        method = LoKr(
            rank=in_pattern(config["rank_pattern"], module.name, config["r"]),
            alpha=float(in_pattern(config["alpha_pattern"], module.name, config["alpha"])),
            factor=factor if factor > 0 else None,
        )
        if "lokr_w1" in module.tensors:
            small = module.take("lokr_w1")
        else:
            small = module.take("lokr_w1_a") @ module.take("lokr_w1_b")
        if "lokr_w2" in module.tensors:
            large = {"c": module.take("lokr_w2").T}
        else:
            large = {"a": module.take("lokr_w2_b").T, "b": module.take("lokr_w2_a").T}
        yield MethodPiece(method, module.site, {"k": small.T, **large})


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the matrices; ranks and alphas other than the most frequent ones go into patterns."""
    names = {"k": "lokr_w1", "c": "lokr_w2", "a": "lokr_w2_b", "b": "lokr_w2_a"}
    for place in adapter.places:
        for ours, value in place.weights.items():
            adapter.put(place, names[ours], value.T)
    rank, ranks = adapter.with_pattern("rank", adapter.places)
    alpha, alphas = adapter.with_pattern("alpha", adapter.places)
    return {
        "target_modules": adapter.targets,
        "r": rank,
        "alpha": alpha,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "decompose_factor": adapter.common("factor") or -1,
    }
