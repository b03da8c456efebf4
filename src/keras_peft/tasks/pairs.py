"""One label for each pair of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras_peft.inputs.input import Input
from keras_peft.inputs.text import TextInput
from keras_peft.tasks import single_label


@dataclass(frozen=True)
class Task(single_label.Task):
    """Chooses one of several labels for two texts, which the base reads together.

    Args:
        labels: The labels, in the order of the head's outputs.
        temperature: What the outputs are divided by before they become probabilities.
        abstain_below: The least probability with which a label is said.
    """

    name: ClassVar[str] = "pairs"
    input: ClassVar[Input] = TextInput(("text_a", "text_b"))
