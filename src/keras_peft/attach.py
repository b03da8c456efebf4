"""Attach a method to any built Keras model, and take it off again."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from keras_peft import bases
from keras_peft.core.adapted import AdaptedModel
from keras_peft.core.method import Method
from keras_peft.core.selection import Selection
from keras_peft.core.sites import find_sites


def adapt(
    model: keras.Model,
    method: Method,
    *,
    layers: str | Iterable[int] = "all",
    targets: str | Iterable[str] | None = None,
    head: keras.Layer | None = None,
) -> AdaptedModel:
    """Freezes a model and attaches a method to it.

    Args:
        model: Any built Keras model: Functional, subclassed, from KerasHub. It stays
            whole; only the calls of its layers are intercepted.
        method: The method, such as `LoRA(rank=8)`.
        layers: The blocks to attach in: `"all"`, `"last:2"`, `"first:2"`, `[-1, -2]`.
        targets: Roles, such as `"attention.query"`, or regular expressions that are
            searched in the layers' paths. The method's own choice by default.
        head: A layer put on top of the model's output and trained in full. A
            KerasHub classifier's own head trains in full without it.

    Returns:
        A model to compile and fit as usual. `print(adapted.plan)` shows what trains.

    Raises:
        SelectionError: If a target or a layer matches nothing.
        OptionError: If the model is not built or is adapted already.

    Example:
        >>> classifier = keras_hub.models.TextClassifier.from_preset(
        ...     "distil_bert_base_en_uncased", num_classes=4
        ... )
        >>> adapted = keras_peft.adapt(classifier, keras_peft.LoRA(rank=8), layers="last:2")
        >>> adapted.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> adapted.fit(dataset)
    """
    roles = bases.roles_of(model)
    if targets is None:
        # The method's own choice may name roles that this architecture lacks.
        present = {site.role for site in find_sites(model, roles)}
        targets = [role for role in method.default_targets if role in present] or method.default_targets
    return AdaptedModel(model, method, Selection.of(targets, layers), roles=roles, head=head)


def detach(model: AdaptedModel) -> keras.Model:
    """Takes the adapter off and returns the base as it was, bit for bit.

    Args:
        model: What `adapt` returned. It is of no use afterwards.

    Returns:
        The model that was given to `adapt`, with its weights and trainable flags.
    """
    return model.detach()
