"""Vectors: a linear model on the frozen base's vectors, the mean over the tokens of each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from keras_peft.comparing.yardsticks import _yardstick
from keras_peft.comparing.yardsticks._linear import fit_linear
from keras_peft.comparing.yardsticks._yardstick import Fitted
from keras_peft.errors import OptionError

if TYPE_CHECKING:
    from keras_peft.data.examples import Examples
    from keras_peft.sources import Base
    from keras_peft.tasks import Task


class Yardstick(_yardstick.Yardstick):
    """A linear model on the frozen base's vectors."""

    title: ClassVar[str] = "Frozen vectors"
    reads_base: ClassVar[bool] = True

    @classmethod
    def suits(cls, task: type[Task]) -> bool:
        """Returns whether the task has one vector per row."""
        return not task.per_word

    def fit(self, training: Examples, task: Task, base: Base | None, *, max_length: int, seed: int) -> Fitted:
        """Fits the model; see `Yardstick.fit`."""
        if base is None:
            raise OptionError("The yardstick 'vectors' needs a base.")
        from keras_peft.runtime.inference import Inference
        from keras_peft.runtime.padding import token_signature

        encoder = training.input.encoder(base.tokenizer, max_length, long_text="cut")
        run = Inference(base.encoder, token_signature())

        def vectors(texts: Sequence[Any]) -> np.ndarray:
            return frozen_vectors(run, encoder(texts), base.dim)

        linear, parameters = fit_linear(task, vectors(training.texts), training.labels)
        return Fitted(lambda texts: linear(vectors(texts)), parameters)


def frozen_vectors(run: Any, tokens: Any, dim: int) -> np.ndarray:
    """Computes the mean of the encoder's vectors over each row's tokens, normalised to length 1.

    Args:
        run: Computes the encoder's vectors of a batch, (rows, length, dim).
        tokens: The encoded rows.
        dim: Size of a vector.

    Returns:
        The means, (rows, dim) float32.
    """
    from sklearn.preprocessing import normalize

    from keras_peft.runtime.rows import inference_batches

    means = np.zeros((len(tokens.lengths), dim), np.float32)
    for rows, inputs in inference_batches(tokens):
        mask = inputs["padding_mask"][..., None]
        means[rows] = (np.asarray(run(inputs)) * mask).sum(1) / mask.sum(1)
    return np.asarray(normalize(means))
