"""Base class of the tasks with one answer per row: the head reads a single vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from keras_peft.core.pooling import FIRST_TOKEN, POOLINGS
from keras_peft.errors import OptionError, listed
from keras_peft.inputs.input import Input
from keras_peft.inputs.text import TextInput
from keras_peft.tasks._task import Task, quoted

if TYPE_CHECKING:
    import keras
    import numpy as np

_ACTIVATIONS = ("relu", "tanh")


@dataclass(frozen=True)
class PooledTask(Task):
    """Task whose head reads one vector per row.

    Args:
        labels: Labels, in the order of the head's outputs.
        activation: Activation between the two layers of the head: "relu" as in DistilBERT's head, or
            "tanh" as in BERT's. None for a head of one layer.
        pooling: Which vector the head reads: that of the first token, or the mean or the maximum of all.

    Raises:
        OptionError: If the activation or the pooling is not supported.
    """

    input: ClassVar[Input] = TextInput()
    label_column: ClassVar[str] = "label"
    per_word: ClassVar[bool] = False
    default_layers: ClassVar[str | None] = None
    pipeline: ClassVar[str] = "text-classification"

    activation: str | None = field(default="relu", kw_only=True)
    pooling: str = field(default=FIRST_TOKEN, kw_only=True)

    @classmethod
    def problems_with(cls, labels: Sequence[str], config: Mapping[str, Any]) -> list[str]:
        problems = super().problems_with(labels, config)
        for name, known in (("activation", (None, *_ACTIVATIONS)), ("pooling", POOLINGS)):
            if name in config and config[name] not in known:
                problems.append(f"The {name} is one of {listed(known)}; got {quoted(config[name])}.")
        return problems

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise OptionError(f"Expected one of {listed(POOLINGS)} as the pooling, got {self.pooling!r}.")
        if self.activation is not None and self.activation not in _ACTIVATIONS:
            raise OptionError(
                f"Expected one of {listed(_ACTIVATIONS)} as the activation of the head, got {self.activation!r}."
            )

    def with_pooling(self, pooling: str) -> Self:
        """Returns the task with another pooling before its head.

        A head that reads a mean or a maximum has one layer: it can start as a regression on the vectors. Only
        a head that reads the first token is Hugging Face's, with two layers.
        """
        return replace(self, pooling=pooling, activation=self.activation if pooling == FIRST_TOKEN else None)

    def with_activation(self, activation: str | None) -> Self:
        return self if activation is None else replace(self, activation=activation)

    def head(self, dim: int) -> keras.Model:
        """Builds the head: dense layer with activation, dropout, dense layer; without activation, only the last.

        It reads the first of the encoder's vectors, which is the pooled one if they are pooled. With ReLU, it
        is the head of Hugging Face's DistilBertForSequenceClassification; with tanh, that of
        BertForSequenceClassification. The layers are named as in KerasHub.

        Args:
            dim: Size of the encoder's vectors.

        Returns:
            A model from (batch, length, dim) to (batch, outputs).
        """
        import keras

        normal = keras.initializers.RandomNormal(stddev=0.02)
        vectors = keras.Input((None, dim), name="vectors")
        outputs = vectors[:, 0]
        if self.activation is not None:
            outputs = keras.layers.Dense(
                dim, self.activation, kernel_initializer=normal, name="pooled_dense"
            )(outputs)
        outputs = keras.layers.Dropout(0.2, name="dropout")(outputs)
        outputs = keras.layers.Dense(
            self.outputs, kernel_initializer=normal.clone(), name="logits", dtype="float32"
        )(outputs)
        return keras.Model(vectors, outputs, name="head")

    def head_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the head's tensors by key, without building the head.

        Args:
            dim: Size of the encoder's vectors.
        """
        first = {"pooled_dense/kernel": (dim, dim), "pooled_dense/bias": (dim,)}
        last = {"logits/kernel": (dim, self.outputs), "logits/bias": (self.outputs,)}
        return last if self.activation is None else first | last

    @property
    def head_layers(self) -> tuple[tuple[str, str | None], ...]:
        last: tuple[tuple[str, str | None], ...] = (("logits", None),)
        return last if self.activation is None else (("pooled_dense", self.activation), *last)

    def apply_head(self, vectors: np.ndarray, head: Mapping[str, np.ndarray]) -> np.ndarray:
        """Computes the head's outputs without Keras, so that each row of a batch can have its own head.

        Args:
            vectors: Vectors of the encoder, (rows, length, dim) float32.
            head: Tensors of the head, by the keys of `head_shapes`.

        Returns:
            The outputs of the model that `head` builds, (rows, outputs) float32.
        """
        import numpy as np

        pooled = vectors[:, 0]
        if self.activation is not None:
            pooled = pooled @ head["pooled_dense/kernel"] + head["pooled_dense/bias"]
            pooled = np.tanh(pooled) if self.activation == "tanh" else np.maximum(pooled, 0)
        return np.asarray(pooled @ head["logits/kernel"] + head["logits/bias"])
