"""Prediction heads: AdapterHub's flexible heads, and those of Hugging Face's model classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_peft import bases, tasks
from keras_peft.errors import AdapterError, OptionError, listed
from keras_peft.interop.hf_peft._head import Head, head_of
from keras_peft.tasks import Task

_TAGGING = "tagging"
_TYPES = {
    "classification": "single-label",
    "multilabel_classification": "multi-label",
    _TAGGING: "token-labels",
}
# Suffixes of Hugging Face's classifier classes, and the equivalent head types of AdapterHub.
_CLASSES = {"ForSequenceClassification": "classification", "ForTokenClassification": _TAGGING}


@dataclass(frozen=True)
class DescribedHead:
    """A head as its configuration describes it.

    Attributes:
        task: Class of its task.
        head: Names of its modules.
        labels: Labels in the order of the outputs; empty if they are not given.
    """

    task: type[Task]
    head: Head
    labels: tuple[str, ...]


def describe(config: Mapping[str, Any], kind: str, task: str | None) -> DescribedHead:
    """Reads the configuration of a head.

    Args:
        config: Content of `head_config.json`.
        kind: Hugging Face's `model_type` of the base model.
        task: Name of the task, if the user gave one.

    Raises:
        AdapterError: If the head is not supported.
        OptionError: If the head does not fit the task.
    """
    flexible: Mapping[str, Any] = config.get("config") or {}
    if not isinstance(flexible, Mapping):
        raise AdapterError("its head_config.json does not contain the config of the head.")
    class_name = str(config.get("model_class"))
    by_class = next((said for end, said in _CLASSES.items() if class_name.endswith(end)), None)
    said = flexible.get("head_type") if flexible else by_class
    if said not in tuple(_TYPES):
        what = f"a head of the type {said!r}" if flexible else f"the head of {class_name}"
        raise AdapterError(
            f"{what} is not a classifier of texts or tokens, which a bundle needs; expected {listed(_TYPES)}, or a "
            f"class whose name ends in {listed(_CLASSES)}."
        )
    described = flexible or config
    usual = _TYPES[said]
    if said == "classification" and described.get("num_labels") == 1:
        usual = "regression"
    found = tasks.find(task or usual)
    if found.per_word != (said == _TAGGING):
        raise OptionError(
            f"A head of the type {said!r} does not fit the task {found.name}; omit the task to use {usual}."
        )
    try:
        labels = sorted((described.get("label2id") or {}).items(), key=lambda item: int(item[1]))
    except (AttributeError, TypeError, ValueError):
        raise AdapterError("its head_config.json has no label2id that maps labels to numbers.") from None
    head = _flexible(flexible, str(config.get("name")), kind) if flexible else head_of(kind, found)
    return DescribedHead(found, head, tuple(str(label) for label, _ in labels))


def written(task: Task, name: str) -> tuple[dict[str, Any], Head]:
    """Returns the configuration and module names of the flexible head for a task.

    Args:
        task: The task.
        name: Name of the head.
    """
    types = {usual: said for said, usual in _TYPES.items()}
    labels = task.labels or tuple(f"LABEL_{number}" for number in range(task.outputs))
    config = {
        "head_type": types.get(task.name, "classification"),
        "num_labels": task.outputs,
        "layers": 1 if task.per_word else 2,
        "activation_function": task.activation or "relu",
        "label2id": {label: number for number, label in enumerate(labels)},
        "dropout_prob": None,
    }
    if not task.per_word:
        config |= {"use_pooler": False, "bias": True}
    return config, _flexible(config, name, "")


def _flexible(config: Mapping[str, Any], name: str, kind: str) -> Head:
    """Returns the module names of a flexible head: dropout, dense, activation, dropout, dense."""
    first, second = f"heads.{name}.1", f"heads.{name}.4"
    layers, activation = config.get("layers"), config.get("activation_function")
    if config["head_type"] == _TAGGING:
        wanted, head = 1, Head("", {first: "logits"}, "relu", ())
    elif config.get("use_pooler"):
        pooler = f"{bases.checkpoints()[kind].CHECKPOINT.prefix}.pooler.dense"
        wanted, head = 1, Head("", {pooler: "pooled_dense", first: "logits"}, "tanh", ())
    else:
        wanted, head = 2, Head("", {first: "pooled_dense", second: "logits"}, str(activation), ())
    if layers != wanted:
        pooled = " with use_pooler" if config.get("use_pooler") else ""
        raise AdapterError(
            f"its head of the type {config['head_type']!r}{pooled} has layers={layers!r}; only {wanted} is supported."
        )
    if head.activation not in ("relu", "tanh"):
        raise AdapterError(
            f"its head has activation_function={activation!r}; only 'relu' and 'tanh' are supported."
        )
    return head
