"""VeRA: `vera_lambda_d` (r,) and `vera_lambda_b` (out,) are d and b; `vera_A` and `vera_B` are Aᵀ and Bᵀ.

The random matrices are read from the file or, without `save_projection`, drawn as PyTorch draws them. Export
always writes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_peft.core.projection import projection
from keras_peft.errors import listed
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.vera import VeRA

TYPE = "VERA"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings(
    used={
        "r": 256,
        "d_initial": 0.1,
        "vera_dropout": 0.0,
        "save_projection": True,
        "projection_prng_key": 0,
    },
    fixed={"bias": "none"},
)


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the vectors, and reads or draws the random matrices."""
    config = file.config
    ranks = {module.tensors["vera_lambda_d"].size for module in file.modules}
    if ranks != {config["r"]}:
        file.problems.append(f"r={config['r']} is not the size of vera_lambda_d, {listed(sorted(ranks))}")
        return
    method = VeRA(rank=config["r"], initial=float(config["d_initial"]), dropout=float(config["vera_dropout"]))
    if config["save_projection"]:
        a, b = (file.rest.pop(f"base_model.vera_{name}") for name in "AB")
    else:
        views = [projection(module.site) for module in file.modules]
        widest = max(view.inputs for view in views), max(view.outputs for view in views)
        a, b = random_matrices(config["projection_prng_key"], config["r"], *widest)
    yield MethodPiece(method, None, {"a": a.T, "b": b.T})
    for module in file.modules:
        weights = {name: module.take(f"vera_lambda_{name[-1]}") for name in ("scale_d", "scale_b")}
        yield MethodPiece(method, module.site, weights)


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the vectors, and the random matrices once for all of them."""
    for place in adapter.places:
        for name in ("scale_d", "scale_b"):
            adapter.put(place, f"vera_lambda_{name[-1]}", place.weights[name])
    for name in ("a", "b"):
        matrix = adapter.places[0].weights[name].T
        adapter.whole[f"base_model.vera_{name.upper()}"] = np.ascontiguousarray(matrix)
    return {
        "target_modules": adapter.targets,
        "r": adapter.common("rank"),
        "d_initial": adapter.common("initial"),
        "vera_dropout": adapter.common("dropout"),
        "save_projection": True,
    }


def random_matrices(key: int, rank: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the same matrices as PEFT: A (rank, inputs), then B (outputs, rank).

    The 32-bit words equal those of PyTorch's generator, which uses the lower 24 bits for a float.
    """
    words = np.random.RandomState(key)
    matrices = []
    for shape in ((rank, inputs), (outputs, rank)):
        drawn = words.randint(0, 2**32, shape, np.uint32) & (2**24 - 1)
        bound = np.float32(math.sqrt(6 / shape[1]))
        matrices.append(drawn.astype(np.float32) * np.float32(2**-24) * (2 * bound) - bound)
    return matrices[0], matrices[1]
