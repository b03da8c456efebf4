"""Copies of a bundle's model that Keras can save, without changing the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from keras_peft.core.pooling import FIRST_TOKEN
from keras_peft.errors import AdapterError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_peft.bundle import Bundle
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.tasks import Task

_LAST = ("head/logits/kernel", "head/logits/bias")


@contextmanager
def folded(model: AdaptedModel, task: Task) -> Iterator[AdaptedModel]:
    """Folds the task into a model's head within the context, and merges its adapter if that is possible.

    Args:
        model: The model of a bundle.
        task: Its task; see `Task.to_plain`.
    """
    import keras

    last = [model.adapter_variables()[key] for key in _LAST]
    before = [keras.ops.convert_to_numpy(variable) for variable in last]
    with suppress(AdapterError):  # Other adapters compute their updates in each call.
        model.merge()
    try:
        for variable, value in zip(last, task.to_plain(*before), strict=True):
            variable.assign(value)
        yield model
    finally:
        for variable, value in zip(last, before, strict=True):
            variable.assign(value)
        model.unmerge()


def merged_encoder(model: AdaptedModel) -> keras.Model:
    """Returns a copy of a model's encoder with the adapter merged into its weights.

    Args:
        model: The model of a bundle.

    Returns:
        A Functional model of the layers of Keras and KerasHub.

    Raises:
        AdapterError: If the adapter cannot be merged.
    """
    model.merge()
    try:
        return _copy(model.base)
    finally:
        model.unmerge()


def classifier_on(encoder: keras.Model, task: Task, head: Mapping[str, np.ndarray]) -> keras.Model:
    """Joins an encoder with pooling and head, and folds the task into the head.

    Args:
        encoder: From {token_ids, padding_mask}, both (batch, length) int32, to (batch, length, dim).
        task: The task; see `Task.to_plain`.
        head: Tensors of the head, by their keys in an adapted model.

    Returns:
        A Functional model that Keras can save and load without keras-peft.
    """
    import keras

    from keras_peft.core.pooling_layer import Pooling

    vectors = encoder.output
    if task.pooling not in (None, FIRST_TOKEN):
        # Not as a layer: its operations are Keras's own.
        vectors = Pooling(task.pooling).call(vectors, encoder.input["padding_mask"])
    return keras.Model(encoder.input, _head(task, head, int(vectors.shape[-1]))(vectors), name="classifier")


def adapted_copy(bundle: Bundle, model: AdaptedModel, task: Task) -> AdaptedModel:
    """Returns a copy of an adapted model with the task folded into its head.

    Args:
        bundle: The bundle.
        model: Its model.
        task: Its task.
    """
    from keras_peft import attach, bases, methods

    tensors = model.adapter_tensors()
    with model.disabled():
        encoder = _copy(model.base)
    dim = int(encoder.output_shape[-1])
    copy = attach.adapt(
        encoder,
        methods.placements_from_config(bundle.content["parts"]),
        head=_head(task, tensors, dim),
        pooling=task.pooling,
        roles=bases.roles_of(model.base),  # The copy does not have the class of its architecture.
    )
    own = {key: value for key, value in copy.adapter_tensors().items() if key.startswith("head/")}
    copy.assign_adapter_tensors({**tensors, **own})
    return copy


def _copy(encoder: keras.Model) -> keras.Model:
    """Copies an encoder as a graph of its layers, whose configurations are more complete than its own."""
    import keras

    graph = keras.Model(encoder.input, encoder.output, name=encoder.name)
    copy: Any = keras.Model.from_config(graph.get_config())
    copy.set_weights(graph.get_weights())
    return copy


def _head(task: Task, tensors: Mapping[str, np.ndarray], dim: int) -> keras.Model:
    """Builds a head with the task folded into it."""
    values = {**tensors, **dict(zip(_LAST, task.to_plain(*(tensors[key] for key in _LAST)), strict=True))}
    head = task.head(dim)
    for name, _ in task.head_layers:
        layer = head.get_layer(name)
        layer.kernel.assign(values[f"head/{name}/kernel"])
        layer.bias.assign(values[f"head/{name}/bias"])
    return head
