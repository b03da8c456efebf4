"""Attach a method to any built Keras model and detach it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras

from keras_peft import bases, methods
from keras_peft import keras_files as keras_files  # Keras can then load adapted models.
from keras_peft.core.adapted import DEFAULT_NAME, AdaptedModel
from keras_peft.core.method import Method
from keras_peft.core.placement import Placement
from keras_peft.core.pooling import FIRST_TOKEN
from keras_peft.errors import OptionError


def adapt(
    model: keras.Model,
    method: Method | str | Sequence[Method | str | Placement],
    *,
    layers: str | Iterable[int] = "all",
    targets: str | Iterable[str] | None = None,
    head: keras.Layer | None = None,
    roles: Mapping[str, str] | None = None,
    adapter: str = DEFAULT_NAME,
    pooling: str | None = None,
) -> AdaptedModel:
    """Freezes a model and attaches a method to it.

    Args:
        model: Any built Keras model: Functional, subclassed or from KerasHub. The model is
            not rebuilt; only the calls of its layers are intercepted.
        method: The method, such as `LoRA(rank=8)`, its name, such as `"lora"`, or several methods that
            form one adapter, such as `[LoRA(), PrefixTuning()]`.
        layers: The blocks to attach to: `"all"`, `"last:2"`, `"first:2"`, `[-1, -2]`.
        targets: Roles, such as `"attention.query"`, or regular expressions searched for in
            the layer paths. Defaults to the method's own targets.
        head: A layer applied to the model's output and trained in full. The head of a
            KerasHub classifier is trained in full without this argument.
        roles: The roles of the layers of a custom model: maps regular expressions, matched at
            the end of a path, to roles, such as `{r"block_\\d+/up": "ffn.up"}`. Not needed
            for known architectures and Keras's own layers.
        adapter: Name of the adapter, for models with several adapters.
        pooling: How the head reads the output vectors of an encoder: `"mean"` or `"max"` of the
            tokens' vectors, as one vector of shape (batch, 1, dim); `"first-token"` if it reads
            only the vector of the first token, so that the last block is computed for this
            position only if the architecture allows it. By default it reads all vectors.

    Returns:
        A model to compile and fit as usual. `print(adapted.plan)` lists the trainable parameters.

    Raises:
        SelectionError: If a target or a layer matches nothing.
        OptionError: If the model is not built, is already adapted, or has Keras's own LoRA
            enabled, or `pooling` does not fit it.

    Example:
        >>> classifier = keras_hub.models.TextClassifier.from_preset(
        ...     "distil_bert_base_en_uncased", num_classes=4
        ... )
        >>> adapted = keras_peft.adapt(classifier, keras_peft.LoRA(rank=8), layers="last:2")
        >>> adapted.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> adapted.fit(dataset)
    """
    if not isinstance(model, keras.Model):
        raise OptionError(f"`model`: expected a Keras model, got {type(model).__name__}.")
    chosen: list[Method | Placement] = []
    for one in method if isinstance(method, list | tuple) else [method]:
        chosen += [one] if isinstance(one, Placement) else methods.as_methods(one)
    if not chosen:
        raise OptionError("`method`: expected at least one method, got none.")
    return AdaptedModel(
        model,
        chosen[0] if len(chosen) == 1 and isinstance(chosen[0], Method) else chosen,
        layers=layers,
        targets=targets,
        roles={**bases.roles_of(model), **(roles or {})},
        head=head,
        adapter=adapter,
        pooling=pooling,
        first_position_only=pooling == FIRST_TOKEN and bases.has_norms_after(model),
    )


def detach(model: AdaptedModel) -> keras.Model:
    """Removes all adapters and restores the base exactly.

    Args:
        model: The model returned by `adapt`. It cannot be used afterwards.

    Returns:
        The model that was passed to `adapt`, with its original weights and trainable flags.
    """
    return model.detach()
