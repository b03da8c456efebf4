"""Whether tensors fit an adapter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_peft.errors import AdapterError


def refuse_unfit(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that tensors have the keys and shapes of an adapter.

    Args:
        tensors: The tensors by key.
        shapes: The expected shapes by key.

    Raises:
        AdapterError: If a key is missing or unexpected, or a tensor has the wrong shape or
            values that are not finite. The message lists all problems.
    """
    missing = [f"missing {key} {shape}" for key, shape in shapes.items() if key not in tensors]
    extra = [f"unexpected {key} {value.shape}" for key, value in tensors.items() if key not in shapes]
    misshapen = [
        f"{key}: expected {shapes[key]}, got {value.shape}"
        for key, value in tensors.items()
        if key in shapes and shapes[key] != value.shape
    ]
    not_finite = [
        f"{key}: has values that are not finite"
        for key, value in tensors.items()
        if key in shapes and not np.isfinite(value).all()
    ]
    if problems := missing + extra + misshapen + not_finite:
        raise AdapterError("The weights do not fit this adapter: " + "; ".join(problems) + ".")
