"""The classification head, all of whose weights PEFT saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_peft import bases, tasks
from keras_peft.core.pooling import FIRST_TOKEN
from keras_peft.interop.hf_peft._pieces import Tensors
from keras_peft.tasks import Task

TASK_TYPES = {"SEQ_CLS": "single-label", "TOKEN_CLS": "token-labels"}
"""PEFT's task types for text and token classifiers, with the default task for each."""


@dataclass(frozen=True)
class Head:
    """The head of a Hugging Face model class.

    Attributes:
        class_name: Suffix of the class name.
        layers: Mapping from module names to the head's layer names in this package.
        activation: Activation between the layers, if there are two.
        saved: Module names to list in `modules_to_save`.
    """

    class_name: str
    layers: Mapping[str, str]
    activation: str
    saved: tuple[str, ...]

    def read(self, tensors: Tensors, base: Mapping[str, np.ndarray]) -> tuple[Tensors, list[str]]:
        """Takes the head's tensors from an adapter, or from its base model if they were not trained.

        Args:
            tensors: The adapter's tensors by name. Those of the head are removed.
            base: Tensors of the base model's checkpoint by name.

        Returns:
            The head's tensors by their keys in an adapted model, and the names of missing tensors.
        """
        found: Tensors = {}
        missing = []
        for module, layer in self.layers.items():
            for ending, variable in (("weight", "kernel"), ("bias", "bias")):
                name = f"{module}.{ending}"
                saved = [f"{prefix}{name}" for prefix in ("base_model.model.", "base_model.", "")]
                values = [tensors.pop(key) for key in saved if key in tensors]
                # A checkpoint of a model without a head has no prefix.
                values += [base[key] for key in (name, name.partition(".")[2]) if key in base]
                if not values:
                    missing.append(name)
                else:
                    found[f"head/{layer}/{variable}"] = values[0].T
        return found, missing

    def write(self, tensors: Mapping[str, np.ndarray]) -> Tensors:
        """Returns the head's tensors by their names in Hugging Face's model.

        Args:
            tensors: The head's tensors by their keys in an adapted model.
        """
        return {
            f"{module}.{ending}": np.ascontiguousarray(tensors[f"head/{layer}/{variable}"].T)
            for module, layer in self.layers.items()
            for ending, variable in (("weight", "kernel"), ("bias", "bias"))
        }


def head_of(kind: str, task: type[Task]) -> Head:
    """Returns Hugging Face's head for an architecture and a task.

    Args:
        kind: Hugging Face's `model_type` of the architecture.
        task: Class of the task.
    """
    if task.per_word:
        return Head("ForTokenClassification", {"classifier": "logits"}, "relu", ("classifier",))
    own = bases.checkpoints()[kind].CHECKPOINT.text_head
    return Head("ForSequenceClassification", own.layers, own.activation, own.saved)


def pooling_problems(task: Task) -> list[str]:
    """Returns the reason why Hugging Face's classes cannot hold the head of a task; empty if they can.

    Args:
        task: The task.
    """
    if task.pooling in (None, FIRST_TOKEN):
        return []
    return [
        f"its head reads the {task.pooling} of all vectors, but those of Hugging Face's classes read the first "
        "token's; `format='sentence-transformers'` exports it, or train with `pooling='first-token'`"
    ]


def folded(tensors: Mapping[str, np.ndarray], task: Task) -> Tensors:
    """Folds the temperature, or the mean and standard deviation, of a task into the head's last layer.

    Args:
        tensors: The head's tensors by their keys in an adapted model.
        task: The task.

    Returns:
        The tensors with the last layer changed.
    """
    last = ("head/logits/kernel", "head/logits/bias")
    return dict(tensors) | dict(zip(last, task.to_plain(*(tensors[key] for key in last)), strict=True))


def task_type_of(task: type[Task]) -> str:
    """Returns PEFT's `task_type` of a task."""
    words = {tasks.find(name).per_word: word for word, name in TASK_TYPES.items()}
    return words[task.per_word]
