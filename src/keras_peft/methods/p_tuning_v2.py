"""P-tuning v2: deep prompts, that is, learned keys and values in every layer.

Liu et al. 2021, "P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally
Across Scales and Tasks", https://arxiv.org/abs/2110.07602, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras_peft.core.method import option
from keras_peft.methods.prefix import PrefixTuning


@dataclass(frozen=True, kw_only=True)
class PTuningV2(PrefixTuning):
    """Adds learned keys and values to every layer, for classification with a head.

    It is prefix tuning with the choices that the paper found important for tasks of language
    understanding: prompts in all layers, no perceptron by default, fewer tokens for simple
    tasks, and a classification head on the first token instead of a verbaliser.

    Parameters: 2 × tokens × out per attention layer; with `projection` as in prefix tuning.

    Args:
        tokens: Number of learned keys and values; the paper uses fewer than 20 for simple
            tasks and about 100 for hard ones.
        projection: Generate the keys and values with a perceptron.
        hidden: Number of hidden units of that perceptron.
        shift_positions: Count the text's positions from the end of the prefix.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.PTuningV2(), head=head)
    """

    name: ClassVar[str] = "p-tuning-v2"
    title: ClassVar[str] = "P-tuning v2 (deep prompts)"
    paper: ClassVar[str] = "Liu et al. 2021, https://arxiv.org/abs/2110.07602"

    tokens: int = option(20, "number of learned keys and values", minimum=1)
