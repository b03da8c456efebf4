"""The classifier on top of the base, which PEFT saves whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_peft import bases, tasks
from keras_peft.interop.hf_peft._pieces import Tensors
from keras_peft.tasks import Task

TASK_TYPES = {"SEQ_CLS": "single-label", "TOKEN_CLS": "token-labels"}
"""PEFT's words for classifiers of texts and of tokens, and what they are here if nothing else is said."""


@dataclass(frozen=True)
class Head:
    """The head of one of Hugging Face's classes.

    Attributes:
        class_name: The end of the class's name.
        layers: From its modules to the layers of the head here.
        activation: What acts between them, where there are two.
        saved: What `modules_to_save` has to name.
    """

    class_name: str
    layers: Mapping[str, str]
    activation: str
    saved: tuple[str, ...]

    def read(self, tensors: Tensors, base: Mapping[str, np.ndarray]) -> tuple[Tensors, list[str]]:
        """Takes the head's tensors out of an adapter, or out of its base where they did not train.

        Args:
            tensors: Those of the adapter that belong to no method.
            base: Those of the base's checkpoint.

        Returns:
            The head's tensors by their keys here, and the names of those that are not there.
        """
        found: Tensors = {}
        missing = []
        for module, layer in self.layers.items():
            for ending, variable in (("weight", "kernel"), ("bias", "bias")):
                name = f"{module}.{ending}"
                saved = [f"{prefix}{name}" for prefix in ("base_model.model.", "base_model.", "")]
                values = [tensors.pop(key) for key in saved if key in tensors]
                # A checkpoint of the bare base has no prefix.
                values += [base[key] for key in (name, name.partition(".")[2]) if key in base]
                if not values:
                    missing.append(name)
                else:
                    found[f"head/{layer}/{variable}"] = values[0].T
        return found, missing

    def write(self, tensors: Mapping[str, np.ndarray]) -> Tensors:
        """Returns the head's tensors by their names there."""
        return {
            f"{module}.{ending}": np.ascontiguousarray(tensors[f"head/{layer}/{variable}"].T)
            for module, layer in self.layers.items()
            for ending, variable in (("weight", "kernel"), ("bias", "bias"))
        }


def head_of(kind: str, task: type[Task]) -> Head:
    """Returns the head that Hugging Face puts on an architecture.

    Args:
        kind: What Hugging Face calls it, the `MODEL_TYPE` of a file in `bases/`.
        task: The task.
    """
    if task.per_word:
        return Head("ForTokenClassification", {"classifier": "logits"}, "relu", ("classifier",))
    own = bases.checkpoints()[kind].CHECKPOINT.text_head
    return Head("ForSequenceClassification", own.layers, own.activation, own.saved)


def folded(tensors: Mapping[str, np.ndarray], task: Task) -> Tensors:
    """Folds a task into the last layer of a head, so that its outputs need nothing of the task to be read.

    Args:
        tensors: The head's, by their keys here.
        task: The task.
    """
    last = ("head/logits/kernel", "head/logits/bias")
    return dict(tensors) | dict(zip(last, task.to_plain(*(tensors[key] for key in last)), strict=True))


def task_type_of(task: type[Task]) -> str:
    """Returns PEFT's word for a task."""
    words = {tasks.find(name).per_word: word for word, name in TASK_TYPES.items()}
    return words[task.per_word]
