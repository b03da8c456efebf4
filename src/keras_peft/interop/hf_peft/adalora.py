"""AdaLoRA: `lora_A` (r, in) is Aᵀ, `lora_E` (r, 1) is E and `lora_B` (out, r) is Bᵀ.

Pruned entries of E are zero in this package. PEFT removes their rows from the file and marks the remaining
ones in `rank_pattern`. PEFT gives the schedule in steps, this package in fractions of the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.interop.hf_peft.lora import SETTINGS as LORA_SETTINGS
from keras_peft.methods.adalora import AdaLoRA

TYPE = "ADALORA"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings(
    used={
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "init_r": 12,
        "target_r": 8,
        "tinit": 0,
        "tfinal": 0,
        "deltaT": 1,
        "orth_reg_weight": 0.5,
        "rank_pattern": None,
        "total_step": None,
    },
    training=LORA_SETTINGS.training
    | {"alpha_pattern", "beta1", "beta2", "init_lora_weights", "lora_bias", "r", "use_rslora"},
    fixed={**LORA_SETTINGS.fixed, "bias": "none", "use_dora": None},
)
# Number of steps to write the schedule in, since the length of a training run in PEFT is unknown.
_STEPS = 1000


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the factors, with zeros for the pruned rows."""
    config = file.config
    steps = config["total_step"] or _STEPS
    method = AdaLoRA(
        rank=min(config["target_r"], config["init_r"]),
        initial_rank=config["init_r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config["lora_dropout"]),
        orthogonality=float(config["orth_reg_weight"]),
        warmup=config["tinit"] / steps,
        settled=config["tfinal"] / steps,
        interval=config["deltaT"],
    )
    for module in file.modules:
        kept = (config["rank_pattern"] or {}).get(f"{module.name}.lora_E", [True] * config["init_r"])
        weights = {
            "a": _widened(module.take("lora_A"), kept).T,
            "e": _widened(module.take("lora_E"), kept)[:, 0],
            "b": _widened(module.take("lora_B").T, kept),
        }
        yield MethodPiece(method, module.site, weights)


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the factors without the rows of pruned entries; an untrained adapter keeps all rows."""
    first = adapter.common("initial_rank")
    cut = {place.module: place.weights["e"] != 0 for place in adapter.places}
    is_cut = any(kept.any() for kept in cut.values()) and not all(kept.all() for kept in cut.values())
    for place in adapter.places:
        kept = cut[place.module] if is_cut else np.ones(first, bool)
        adapter.put(place, "lora_A", place.weights["a"].T[kept])
        adapter.put(place, "lora_E", place.weights["e"][kept, None])
        adapter.put(place, "lora_B", place.weights["b"].T[:, kept])
    return {
        "target_modules": adapter.targets,
        "init_r": first,
        "target_r": adapter.common("rank"),
        "lora_alpha": adapter.common("alpha"),
        "lora_dropout": adapter.common("dropout"),
        "orth_reg_weight": adapter.common("orthogonality"),
        "tinit": round(adapter.common("warmup") * _STEPS),
        "tfinal": round(adapter.common("settled") * _STEPS),
        "deltaT": adapter.common("interval"),
        "total_step": _STEPS,
        "rank_pattern": {f"{name}.lora_E": kept.tolist() for name, kept in cut.items()} if is_cut else None,
    }


def _widened(rows: np.ndarray, kept: Sequence[bool]) -> np.ndarray:
    whole = np.zeros((len(kept), *rows.shape[1:]), rows.dtype)
    whole[np.flatnonzero(kept)] = rows
    return whole
