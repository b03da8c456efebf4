"""LoRA: `lora_A` (rank, in) is Aᵀ and `lora_B` (out, rank) is Bᵀ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keras_peft.interop.adapter_hub import _low_rank
from keras_peft.interop.adapter_hub._places import low_rank_at
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.lora import LoRA

METHODS = (LoRA,)
SETTINGS = Settings(
    used={"r": 8, "alpha": 8, "dropout": 0.0, "version": None},
    training=_low_rank.TOLD,
    fixed={**_low_rank.FIXED, "composition_mode": "add"},
)
held_at = low_rank_at
_ROLES = {"attention.query", "attention.key", "attention.value", "ffn.up", "ffn.down"}


def matches(config: Mapping[str, Any]) -> bool:
    """Returns whether a configuration describes low-rank matrices that are added."""
    return (
        config.get("architecture") == _low_rank.ARCHITECTURE
        and config.get("composition_mode", "add") == "add"
    )


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the factors of each module, which determine its rank."""
    config = file.config
    alpha = _low_rank.alpha_of(config, config["r"])
    for module in file.modules:
        a, b = module.take("lora_A").T, module.take("lora_B").T
        method = LoRA(rank=a.shape[1], alpha=alpha, dropout=float(config["dropout"]))
        yield MethodPiece(method, module.site, {"a": a, "b": b})


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the factors; rsLoRA becomes LoRA with the equivalent alpha."""
    for place in adapter.places:
        adapter.put(place, "lora_A", place.weights["a"].T)
        adapter.put(place, "lora_B", place.weights["b"].T)
    if (start := adapter.common("initialization")) != "default":
        adapter.problems.append(
            f"it was initialised as {start}, which subtracts part of the base; AdapterHub does not support this"
        )
    rank, scaling = adapter.common("rank"), adapter.common("scaling")
    return {
        **_low_rank.settings_of(adapter, _ROLES),
        "r": rank,
        "alpha": scaling * rank,
        "dropout": adapter.common("dropout"),
        "composition_mode": "add",
    }
