"""Bottleneck adapters after a part of a block, at its norm or parallel to it.

`adapter_down.0` and `adapter_up` hold Dᵀ and Uᵀ with their biases. A learned scaling is a tensor there; here
it is multiplied into U and its bias. With `original_ln_before`, the bottleneck reads the output that the
following norm has without the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_peft.interop.adapter_hub import _bottlenecks
from keras_peft.interop.adapter_hub._places import block_of, bottleneck_at
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods._bottleneck import Bottleneck
from keras_peft.methods.houlsby import HoulsbyAdapter
from keras_peft.methods.parallel import ParallelAdapter
from keras_peft.methods.pfeiffer import PfeifferAdapter
from keras_peft.methods.pfeiffer_norm import PfeifferNormAdapter

METHODS = (HoulsbyAdapter, ParallelAdapter, PfeifferAdapter, PfeifferNormAdapter)
SETTINGS = Settings(
    used={
        "non_linearity": "relu",
        "original_ln_before": False,
        "residual_before_ln": True,
        "is_parallel": False,
        "scaling": 1.0,
        "dropout": 0.0,
    },
    training=_bottlenecks.TOLD
    | {
        "factorized_phm_W",
        "factorized_phm_rule",
        "hypercomplex_nonlinearity",
        "learn_phm",
        "phm_bias",
        "phm_c_init",
        "phm_dim",
        "phm_init_range",
        "phm_rank",
        "shared_W_phm",
        "shared_phm_rule",
    },
    fixed={**_bottlenecks.FIXED, "phm_layer": False},
)
held_at = bottleneck_at


def matches(config: Mapping[str, Any]) -> bool:
    """Returns whether a configuration describes bottlenecks with plain matrices."""
    return config.get("architecture") in (None, "bottleneck") and not config.get("phm_layer")


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the bottlenecks, with one method for each size."""
    config = file.config
    method, in_block = _method_of(file)
    activation = _bottlenecks.activation_of(file)
    learned = isinstance(config["scaling"], str)
    number = 1.0 if learned else float(config["scaling"])
    for module in file.modules:
        if in_block and module.site.role != "ffn.down":
            file.refuse(module, f"{method.title} are not supported after attention")
            continue
        down, up = module.take("adapter_down.0.weight").T, module.take("adapter_up.weight").T
        # A method's scaling is positive and the same at all sites, so other scalings go into U.
        factor = module.take("scaling") if learned else np.float32(1 if number > 0 else number)
        yield MethodPiece(
            method(
                size=down.shape[1],
                activation=activation,
                scaling=number if number > 0 else 1.0,
                dropout=float(config["dropout"]),
            ),
            block_of(file.names, module.site) if in_block else module.site,
            {
                "down": down,
                "down_bias": module.take("adapter_down.0.bias"),
                "up": up * factor,
                "up_bias": module.take("adapter_up.bias") * factor,
            },
        )


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the bottlenecks, which must all be of the same kind."""
    for place in adapter.places:
        adapter.put(place, "adapter_down.0.weight", place.weights["down"].T)
        adapter.put(place, "adapter_down.0.bias", place.weights["down_bias"])
        adapter.put(place, "adapter_up.weight", place.weights["up"].T)
        adapter.put(place, "adapter_up.bias", place.weights["up_bias"])
    before = {isinstance(place.method, PfeifferNormAdapter) for place in adapter.places}
    parallel = {isinstance(place.method, ParallelAdapter) for place in adapter.places}
    if len(before) + len(parallel) > 2:
        adapter.problems.append(
            "its bottlenecks are of different kinds, but AdapterHub uses one kind for all"
        )
    return {
        **_bottlenecks.settings_of(adapter),
        "non_linearity": adapter.common("activation"),
        "original_ln_before": True in before,
        "is_parallel": True in parallel,
        "scaling": float(adapter.common("scaling")),
        "dropout": adapter.common("dropout"),
    }


def _method_of(file: IncomingAdapter) -> tuple[type[Bottleneck], bool]:
    """Returns the method's class, and whether its sites are blocks."""
    config = file.config
    if config["is_parallel"]:
        return ParallelAdapter, True
    if config["original_ln_before"]:
        if config["residual_before_ln"] is not True:
            file.problems.append(
                f"residual_before_ln={config['residual_before_ln']!r} is not supported, only True"
            )
        return PfeifferNormAdapter, True
    is_double = any(module.site.role == "attention.output" for module in file.modules)
    return (HoulsbyAdapter if is_double else PfeifferAdapter), False
