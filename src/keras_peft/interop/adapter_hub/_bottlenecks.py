"""Settings that all bottleneck adapters share: activations, places and sizes."""

from __future__ import annotations

from typing import Any

from keras_peft.interop.hf_peft._pieces import IncomingAdapter, OutgoingAdapter

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""Activations of a bottleneck: AdapterHub's names, mapped to those of this package."""
TOLD = frozenset(
    {
        "adapter_residual_before_ln",
        "cross_adapter",
        "init_weights_seed",
        "inv_adapter_reduction_factor",
        "leave_out",
        "mh_adapter",
        "output_adapter",
        "reduction_factor",
        "stochastic_depth",
        "version",
    }
)
"""Keys that follow from the tensors, matter only in training, or matter only for unsupported features."""
FIXED = {
    "inv_adapter": None,
    "ln_after": False,
    "ln_before": False,
    "original_ln_after": True,
    "use_gating": False,
}
"""Keys with a single supported value."""
_FLAGS = {"attention.output": "mh_adapter", "ffn.down": "output_adapter"}


def activation_of(file: IncomingAdapter) -> str:
    """Returns the activation of the bottlenecks, and records a problem if it is not supported."""
    there = str(file.config["non_linearity"])
    if there.lower() not in ACTIVATIONS:
        file.problems.append(
            f"non_linearity={there!r} is not supported; expected one of {', '.join(sorted(ACTIVATIONS))}"
        )
    return ACTIVATIONS.get(there.lower(), "relu")


def settings_of(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Returns the settings for the places and sizes of bottlenecks, and records what they cannot express."""
    found = {
        (site.block, site.role): place
        for place in adapter.places
        for site in [place.site.inner["ffn.down"] if place.site.role == "block" else place.site]
    }
    blocks = {block for block, _ in found}
    roles = {role for _, role in found}
    if not roles <= set(_FLAGS) or None in blocks:
        adapter.problems.append(
            f"AdapterHub supports bottlenecks only after {' and '.join(_FLAGS)}, but it has some after "
            f"{', '.join(sorted(map(str, roles - set(_FLAGS))))}"
        )
        return {}
    if len(found) < len(blocks) * len(roles):
        adapter.problems.append(
            "its bottlenecks after attention and after the feed-forward part are in different blocks, but "
            "AdapterHub can only skip whole blocks"
        )
    sizes: dict[int, set[int]] = {}
    for (block, _), place in found.items():
        sizes.setdefault(int(block or 0), set()).add(place.method.size)
    if any(len(own) > 1 for own in sizes.values()):
        adapter.problems.append(
            "the bottlenecks of a block differ in size, but AdapterHub has one size per block"
        )
    dim = len(next(iter(found.values())).weights["up_bias"])
    factors = {block: reduction(dim, min(own)) for block, own in sizes.items()}
    count = sum(site.role == "block" for site in adapter.names.all_sites)
    values = list(factors.values())
    most = max(dict.fromkeys(values), key=values.count)
    others = {str(block): factor for block, factor in factors.items() if factor != most}
    return {
        **{flag: role in roles for role, flag in _FLAGS.items()},
        "leave_out": [block for block in range(count) if block not in blocks],
        "reduction_factor": {**others, "default": most} if others else most,
    }


def reduction(dim: int, size: int) -> float:
    """Returns a factor for which dim // factor equals the size."""
    if dim % size == 0:
        return dim // size
    # Midway between this size and the next, so that rounding cannot change the size.
    return dim / (size + 0.5)
