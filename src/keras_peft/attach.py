"""Attach a method to any built Keras model, and take it off again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras

from keras_peft import bases
from keras_peft.core.adapted import DEFAULT_NAME, AdaptedModel
from keras_peft.core.adapter import Placement
from keras_peft.core.method import Method


def adapt(
    model: keras.Model,
    method: Method | Sequence[Method | Placement],
    *,
    layers: str | Iterable[int] = "all",
    targets: str | Iterable[str] | None = None,
    head: keras.Layer | None = None,
    roles: Mapping[str, str] | None = None,
    adapter: str = DEFAULT_NAME,
    first_position_only: bool = False,
) -> AdaptedModel:
    """Freezes a model and attaches a method to it.

    Args:
        model: Any built Keras model: Functional, subclassed, from KerasHub. It stays
            whole; only the calls of its layers are intercepted.
        method: The method, such as `LoRA(rank=8)`, or several that make one adapter
            together, such as `[LoRA(), PrefixTuning()]`.
        layers: The blocks to attach in: `"all"`, `"last:2"`, `"first:2"`, `[-1, -2]`.
        targets: Roles, such as `"attention.query"`, or regular expressions that are
            searched in the layers' paths. The method's own choice by default.
        head: A layer put on top of the model's output and trained in full. A
            KerasHub classifier's own head trains in full without it.
        roles: For a model of your own, what its layers are: from regular expressions on
            the end of a path to roles, such as `{r"block_\\d+/up": "ffn.up"}`. Known
            architectures and Keras's own layers need none.
        adapter: Name of the adapter, where a model has several.
        first_position_only: The head reads the model's vector of the first token and no
            other. Where the architecture allows it, the last block is then computed for
            that position alone.

    Returns:
        A model to compile and fit as usual. `print(adapted.plan)` shows what trains.

    Raises:
        SelectionError: If a target or a layer matches nothing.
        OptionError: If the model is not built or is adapted already, or Keras's own LoRA is
            enabled in it.

    Example:
        >>> classifier = keras_hub.models.TextClassifier.from_preset(
        ...     "distil_bert_base_en_uncased", num_classes=4
        ... )
        >>> adapted = keras_peft.adapt(classifier, keras_peft.LoRA(rank=8), layers="last:2")
        >>> adapted.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> adapted.fit(dataset)
    """
    return AdaptedModel(
        model,
        method,
        layers=layers,
        targets=targets,
        roles={**bases.roles_of(model), **(roles or {})},
        head=head,
        adapter=adapter,
        first_position_only=first_position_only and bases.has_norms_after(model),
    )


def detach(model: AdaptedModel) -> keras.Model:
    """Takes the adapter off and returns the base as it was, bit for bit.

    Args:
        model: What `adapt` returned. It is of no use afterwards.

    Returns:
        The model that was given to `adapt`, with its weights and trainable flags.
    """
    return model.detach()
