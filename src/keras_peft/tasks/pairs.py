"""One label for each pair of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras_peft.inputs.input import Input
from keras_peft.inputs.text import TextInput
from keras_peft.tasks import single_label


@dataclass(frozen=True)
class Task(single_label.Task):
    """Predicts one of several labels for two texts, which the base model reads together.

    Args:
        labels: Labels, in the order of the head's outputs.
        temperature: Value that divides the outputs before the softmax.
        abstain_below: Minimum probability of an answer; None to always answer.
    """

    name: ClassVar[str] = "pairs"
    input: ClassVar[Input] = TextInput(("text_a", "text_b"))
