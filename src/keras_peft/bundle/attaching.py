"""Attaches a bundle's adapter to its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_peft.bundle.content import Bundle
from keras_peft.bundle.identity import check_base
from keras_peft.errors import AdapterError, BundleMismatch

if TYPE_CHECKING:
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.sources import Base


def load_model(bundle: Bundle, base: Base) -> AdaptedModel:
    """Attaches a bundle's adapter to a freshly loaded base.

    Args:
        bundle: The bundle.
        base: The base that it was trained on.

    Returns:
        The adapted model.

    Raises:
        BundleMismatch: If the base is not the one that the adapter was trained on, or if
            tensors are missing, unexpected or of the wrong shape; the message lists them all.
    """
    from keras_peft import attach, methods
    from keras_peft.core.weights import read_tensors

    check_base(bundle, base)
    try:
        task = bundle.task()
        model = attach.adapt(
            base.encoder,
            methods.placements_from_config(bundle.content["parts"]),
            head=task.head(base.dim),
            pooling=task.pooling,
        )
        model.assign_adapter_tensors(read_tensors(bundle.folder / "adapter.safetensors"))
    except AdapterError as error:
        raise BundleMismatch(f"{bundle.folder}: {error}") from None
    return model
