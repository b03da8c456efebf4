"""Compacter: `W_left` and `W_right` are L and R, `b` is the bias, and the shared `phm_rule` is A."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_peft.interop.adapter_hub import _bottlenecks
from keras_peft.interop.adapter_hub._places import bottleneck_at, take_shared
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.compacter import Compacter

METHODS = (Compacter,)
SETTINGS = Settings(
    used={"non_linearity": "gelu", "dropout": 0.0},
    training=_bottlenecks.TOLD
    | {
        "hypercomplex_nonlinearity",
        "learn_phm",
        "phm_c_init",
        "phm_dim",
        "phm_init_range",
        "phm_layer",
        "phm_rank",
        # Only matters with original_ln_before.
        "residual_before_ln",
    },
    fixed={
        **_bottlenecks.FIXED,
        "factorized_phm_W": True,
        "factorized_phm_rule": False,
        "is_parallel": False,
        "original_ln_before": False,
        "phm_bias": True,
        "scaling": 1.0,
        "shared_W_phm": False,
        "shared_phm_rule": True,
    },
)
held_at = bottleneck_at
_RULE = "phm_rule"
# AdapterHub's tensor names, mapped to weight names of the method.
_NAMES = {
    "adapter_down.0.W_left": "down_left",
    "adapter_down.0.W_right": "down_right",
    "adapter_down.0.b": "down_bias",
    "adapter_up.W_left": "up_left",
    "adapter_up.W_right": "up_right",
    "adapter_up.b": "up_bias",
}


def matches(config: Mapping[str, Any]) -> bool:
    """Returns whether a configuration describes bottlenecks whose matrices are sums of Kronecker products."""
    return config.get("architecture") in (None, "bottleneck") and bool(config.get("phm_layer"))


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the bottlenecks, which share one rule and so must have the same size."""
    rule = take_shared(file, _RULE)
    activation = _bottlenecks.activation_of(file)
    dropout = float(file.config["dropout"])
    methods = {}
    for module in file.modules:
        weights = {here: module.take(there) for there, here in _NAMES.items()}
        products, _, rank = weights["down_left"].shape
        size = len(weights["down_bias"])
        method = Compacter(size=size, products=products, rank=rank, activation=activation, dropout=dropout)
        methods[method] = True
        yield MethodPiece(method, module.site, weights)
    if len(methods) > 1:
        file.problems.append(
            "its bottlenecks differ in size but share the small matrices, which is not supported"
        )
    for method in methods:
        yield MethodPiece(method, None, {"rule": rule})


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the bottlenecks, and the rule once for all of them."""
    for place in adapter.places:
        for there, here in _NAMES.items():
            adapter.put(place, there, place.weights[here])
    adapter.whole[_RULE] = np.ascontiguousarray(adapter.places[0].weights["rule"], np.float32)
    return {
        **_bottlenecks.settings_of(adapter),
        "non_linearity": adapter.common("activation"),
        "dropout": adapter.common("dropout"),
        "original_ln_before": False,
        "phm_layer": True,
        "phm_dim": adapter.common("products"),
        "phm_rank": adapter.common("rank"),
    }
