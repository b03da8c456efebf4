"""OFT: `oft_R.weight` (blocks, size (size - 1) / 2) holds the values above the diagonal.

Shared blocks (`block_share`) are repeated, and the constraint (`coft`) is applied to the values. PEFT's exact
transform rotates in the opposite direction, so its values change sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_peft.core.projection import projection
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.oft import OFT

TYPE = "OFT"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings(
    used={
        "coft": False,
        "eps": 6e-5,
        "block_share": False,
        "use_cayley_neumann": True,
        "num_cayley_neumann_terms": 5,
    },
    # The block size follows from the shapes, since PEFT may have changed it to a divisor of the inputs.
    training=frozenset({"module_dropout", "oft_block_size", "r"}),
    fixed={"bias": "none"},
)


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the values of each module; their shape determines the block size."""
    config = file.config
    for module in file.modules:
        skew = module.take("oft_R.weight")
        size = _size(skew)
        if config["coft"]:
            # The norm of the skew matrix, which contains each value twice.
            norms = np.sqrt(2) * np.linalg.norm(skew, axis=1, keepdims=True)
            skew = skew * np.minimum(1, config["eps"] / math.sqrt(len(skew)) / np.maximum(norms, 1e-30))
        if config["block_share"]:
            skew = np.repeat(skew, projection(module.site).inputs // size, axis=0)
        if config["use_cayley_neumann"]:
            # PEFT computes the same with three terms as with four.
            terms = 4 if config["num_cayley_neumann_terms"] == 3 else config["num_cayley_neumann_terms"]
        else:
            terms, skew = 0, -skew
        yield MethodPiece(OFT(block_size=size, terms=terms), module.site, {"skew": skew})


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the values, with one block size or number of blocks from which PEFT derives all block sizes."""
    terms = adapter.common("terms")
    if terms == 3:
        adapter.problems.append("PEFT does not support terms=3; train with terms=4 or 5")
    for place in adapter.places:
        adapter.put(place, "oft_R.weight", place.weights["skew"] if terms else -place.weights["skew"])
    shapes = [(projection(place.site).inputs, _size(place.weights["skew"])) for place in adapter.places]
    sizes = {size for _, size in shapes} | {place.method.block_size for place in adapter.places}
    fitting = [size for size in sorted(sizes) if all(_moved(size, inputs) == own for inputs, own in shapes)]
    counts = {inputs // size for inputs, size in shapes}
    if not fitting and len(counts) > 1:
        adapter.problems.append("its block sizes cannot be expressed with one PEFT setting")
    return {
        "target_modules": adapter.targets,
        "oft_block_size": fitting[0] if fitting else 0,
        "r": 0 if fitting else min(counts),
        "use_cayley_neumann": terms > 0,
        "num_cayley_neumann_terms": terms or 5,
    }


def _size(skew: np.ndarray) -> int:
    return (1 + math.isqrt(1 + 8 * skew.shape[1])) // 2


def _moved(size: int, inputs: int) -> int:
    """Returns the divisor of `inputs` that is nearest to `size`, the smaller one of two equally near."""
    divisors = [number for number in range(1, inputs + 1) if inputs % number == 0]
    return min(divisors, key=lambda number: (abs(number - size), number))
