"""One label for each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Task:
    """Chooses one of several labels.

    Args:
        labels: The labels, in the order of the head's outputs.
    """

    name: ClassVar[str] = "single-label"
    first_position_only: ClassVar[bool] = True
    """Whether its head reads the vector of the first token and no other."""

    labels: tuple[str, ...]

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Task:
        """Makes the task from the labels of some examples."""
        return cls(tuple(sorted(set(labels))))

    def head(self, dim: int) -> keras.Model:
        """Builds the head: first token, dense with ReLU, dropout, dense.

        It is the head of Hugging Face's DistilBertForSequenceClassification, under
        the names that KerasHub gives it.

        Args:
            dim: Size of the encoder's vectors.

        Returns:
            A model from (batch, length, dim) to logits (batch, labels).
        """
        import keras

        normal = keras.initializers.RandomNormal(stddev=0.02)
        vectors = keras.Input((None, dim), name="vectors")
        outputs = keras.layers.Dense(dim, "relu", kernel_initializer=normal, name="pooled_dense")(
            vectors[:, 0]
        )
        outputs = keras.layers.Dropout(0.2, name="dropout")(outputs)
        outputs = keras.layers.Dense(
            len(self.labels), kernel_initializer=normal.clone(), name="logits", dtype="float32"
        )(outputs)
        return keras.Model(vectors, outputs, name="head")

    def loss(self, label_smoothing: float = 0.0) -> keras.Loss:
        """Returns the loss on the head's logits: softmax cross-entropy.

        Args:
            label_smoothing: Share of each target that is spread over all labels: Szegedy
                et al. 2015, https://arxiv.org/abs/1512.00567, section 7.
        """
        import keras
        from keras import ops

        labels = len(self.labels)

        class CrossEntropy(keras.losses.Loss):
            def call(self, truth: Any, logits: Any) -> Any:
                targets = ops.one_hot(ops.cast(ops.reshape(truth, (-1,)), "int32"), labels)
                return keras.losses.categorical_crossentropy(
                    targets, logits, from_logits=True, label_smoothing=label_smoothing
                )

        return CrossEntropy(name="cross_entropy")

    def targets(self, labels: Sequence[str]) -> np.ndarray:
        """Turns labels into int32 numbers (rows,)."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        return np.array([numbers[label] for label in labels], np.int32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Turns logits (rows, labels) into probabilities of the same shape, by softmax."""
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
