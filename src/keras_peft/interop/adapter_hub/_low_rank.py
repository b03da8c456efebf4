"""Settings that AdapterHub's LoRA and (IA)³ share: their layers and their alpha."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from keras_peft.interop.hf_peft._pieces import OutgoingAdapter

ARCHITECTURE = "lora"
"""AdapterHub's name for both."""
TOLD = frozenset(
    {
        "architecture",
        "attn_matrices",
        "dtype",
        "init_weights_seed",
        "intermediate_lora",
        "leave_out",
        "output_lora",
        "selfattn_lora",
    }
)
"""Keys that follow from the tensors or matter only in training."""
FIXED = {"use_dora": False, "use_gating": False, "vera_b": None, "vera_d": None}
"""Keys with a single supported value."""
# Earlier versions of the library ignored alpha.
_SCALES_SINCE = (1, 1)
_MATRICES = {"attention.query": "q", "attention.key": "k", "attention.value": "v"}
_FLAGS = {"ffn.up": "intermediate_lora", "ffn.down": "output_lora"}


def alpha_of(config: Mapping[str, Any], rank: int) -> float:
    """Returns the effective alpha of an adapter.

    Args:
        config: The relevant settings.
        rank: The alpha that scales by 1, for versions of the library that ignored the setting.
    """
    version = re.fullmatch(r"adapters\.(\d+)\.(\d+).*", str(config["version"]))
    is_early = version is not None and (int(version[1]), int(version[2])) < _SCALES_SINCE
    return float(rank if is_early else config["alpha"])


def settings_of(adapter: OutgoingAdapter, roles: set[str]) -> dict[str, Any]:
    """Returns the settings for an adapter's layers, and records what they cannot express.

    Args:
        adapter: The adapter.
        roles: Roles that AdapterHub can adapt.
    """
    found = {(place.site.block, str(place.site.role)) for place in adapter.places}
    own = {role for _, role in found}
    if own - roles:
        adapter.problems.append(
            f"it is at {', '.join(sorted(own - roles))}, but AdapterHub supports only {', '.join(sorted(roles))}"
        )
    blocks = {block for block, _ in found}
    if len(found) < len(blocks) * len(own):
        adapter.problems.append(
            "it is at different layers in different blocks, but AdapterHub's is at the same ones in all blocks"
        )
    count = sum(site.role == "block" for site in adapter.names.all_sites)
    return {
        "architecture": ARCHITECTURE,
        "selfattn_lora": bool(own & set(_MATRICES)),
        "attn_matrices": [letter for role, letter in _MATRICES.items() if role in own],
        **{flag: role in own for role, flag in _FLAGS.items()},
        "leave_out": [block for block in range(count) if block not in blocks],
    }
