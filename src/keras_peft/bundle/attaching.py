"""Attaches a bundle's adapter to its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_peft.bundle.content import ADAPTER, Bundle
from keras_peft.bundle.fitting import refuse_long_texts
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
            Nothing is built or allocated before the file was found to hold it.
        OptionError: If a method, its layers or the task have invalid options.
    """
    from keras_peft import attach, bases, methods
    from keras_peft.core.adapter import shapes_of
    from keras_peft.core.fitting import refuse_other_shapes
    from keras_peft.core.sites import find_sites
    from keras_peft.core.weights import read_shapes

    check_base(bundle, base)
    placements = methods.placements_from_config(bundle.content["parts"])
    task = bundle.task()
    all_sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    refuse_long_texts(bundle, placements, base.max_length)
    try:
        head = {f"head/{key}": shape for key, shape in task.head_shapes(base.dim).items()}
        refuse_other_shapes(read_shapes(bundle.folder / ADAPTER), shapes_of(all_sites, placements) | head)
        model = attach.adapt(base.encoder, placements, head=task.head(base.dim), pooling=task.pooling)
        model.assign_adapter_tensors(bundle.tensors())
    except AdapterError as error:
        raise BundleMismatch(f"{bundle.folder}: {error}") from None
    return model
