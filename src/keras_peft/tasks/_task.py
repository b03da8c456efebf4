"""What every task says: how its rows are read, what its head is, and what the outputs mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from keras_peft.errors import DataError, OptionError, listed
from keras_peft.inputs.input import Input, Text
from keras_peft.tasks._scores import Scores

if TYPE_CHECKING:
    import keras
    import numpy as np

Label = str | float | tuple[str, ...]
"""What is told of it: a label, several labels, a number, or a tag for each word."""
TableRow = Mapping[str, Any]
_MOST_SHOWN = 400
UNLABELLED = -1
"""The target of a token that is no word's first."""


class Examples(Protocol):
    """Texts with their labels."""

    @property
    def texts(self) -> Sequence[Any]:
        """The texts."""

    @property
    def labels(self) -> Sequence[Any]:
        """As many labels."""


class Prediction(Protocol):
    """What a task says of one text."""

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain values."""

    def cells(self) -> dict[str, Any]:
        """Returns it as columns of a table."""

    def summary(self) -> tuple[str, str, str]:
        """Returns, for people, the answer, how sure it is, and what else could be."""


@dataclass(frozen=True)
class Task(ABC):
    """What a head's outputs mean. Each task is a file of its own.

    Args:
        labels: What it can say, in the order of the head's outputs.
    """

    name: ClassVar[str]
    input: ClassVar[Input]
    """What its rows are where no columns are named."""
    label_column: ClassVar[str]
    """The column of the labels where none is named."""
    per_word: ClassVar[bool]
    """Whether the head answers for each word of a row, or for the row as a whole."""
    default_layers: ClassVar[str | None]
    """The blocks that training attaches in where none are named; None for the method's."""
    pipeline: ClassVar[str]
    """What the Hugging Face Hub calls it."""
    problem_type: ClassVar[str | None]
    """What a Hugging Face model's configuration calls it, if it has a word for it."""

    labels: tuple[str, ...]

    @classmethod
    def reads(cls, values: Sequence[Any]) -> bool:
        """Tells whether some values of the label's column can only be this task's."""
        return False

    @classmethod
    def accepts(cls, row: Text, label: Any) -> bool:
        """Tells whether a label can be one of a row, whichever they are."""
        return True

    @classmethod
    def contradict(cls, labels: Collection[Any]) -> bool:
        """Tells whether one text cannot have all of some labels."""
        return False

    @classmethod
    @abstractmethod
    def read_label(cls, value: Any) -> Label | None:
        """Reads what the column of the labels holds; None where it is no label."""

    @classmethod
    @abstractmethod
    def from_labels(cls, labels: Sequence[Any]) -> Self:
        """Makes the task from the labels of the examples to train on."""

    @classmethod
    @abstractmethod
    def check(cls, labels: Sequence[Any], numbers: Sequence[int], source: str) -> None:
        """Checks that there is something to learn.

        Args:
            labels: Those of the examples to train on.
            numbers: The numbers of their rows.
            source: Where they come from, for people.

        Raises:
            DataError: If there is not.
        """

    @classmethod
    def strata(cls, labels: Sequence[Any]) -> list[Hashable]:
        """Says what shall have the same share on both sides of a split, for each row."""
        return list(labels)

    def unknown(self, labels: Iterable[Any]) -> list[str]:
        """Lists the labels that the task does not know, once for each row that has them."""
        known = set(self.labels)
        return [label for label in labels if label not in known]

    def check_known(self, labels: Iterable[Any], source: str) -> None:
        """Checks that every label is one that is known.

        Raises:
            DataError: If a label is not.
        """
        from collections import Counter

        if unknown := Counter(self.unknown(labels)):
            words = listed(f"{label!r} ({count} rows)" for label, count in unknown.most_common())
            raise DataError(
                f"{source} has labels that the classifier does not know: {words}; it knows "
                f"{listed(self.labels, most=40)}."
            )

    @property
    def outputs(self) -> int:
        """Number of the head's outputs."""
        return len(self.labels)

    @property
    @abstractmethod
    def first_position_only(self) -> bool:
        """Whether the head reads the vector of the first token and no other."""

    @abstractmethod
    def head(self, dim: int) -> keras.Model:
        """Builds the head.

        Args:
            dim: Size of the encoder's vectors.

        Returns:
            A model from (batch, length, dim) to (batch, outputs), or to (batch, length, outputs)
            where it answers for each word.
        """

    @abstractmethod
    def head_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the head's tensors by their keys, without building it.

        Args:
            dim: Size of the encoder's vectors.
        """

    @abstractmethod
    def apply_head(self, vectors: np.ndarray, head: Mapping[str, np.ndarray]) -> np.ndarray:
        """Computes what the head gives, without Keras: rows of a batch may have heads of their own.

        Args:
            vectors: The encoder's, (rows, length, dim) float32.
            head: The head's tensors by the keys of `head_shapes`.

        Returns:
            The same as the model that `head` builds, float32.
        """

    @property
    def activation(self) -> str | None:
        """What acts between the two layers of the head; None where it has a single one."""
        return None

    def with_activation(self, activation: str | None) -> Self:
        """Returns the task with what acts between the layers of its head, where there is such a place."""
        return self

    def from_plain(
        self, kernel: np.ndarray, bias: np.ndarray, labels: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turns the last layer of a classifier with the same labels into one of this task.

        Args:
            kernel: Its weights (dim, outputs).
            bias: Its biases (outputs,).
            labels: The labels in the order of its outputs.

        Returns:
            Weights and biases whose outputs mean here what they mean there.
        """
        order = [labels.index(label) for label in self.labels]
        return kernel[:, order], bias[order]

    def to_plain(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turns the head's last layer into one whose outputs need nothing of the task to be read.

        Args:
            kernel: Its weights (dim, outputs).
            bias: Its biases (outputs,).
        """
        return kernel, bias

    @abstractmethod
    def loss(self, label_smoothing: float = 0.0) -> keras.Loss:
        """Returns the loss on the head's outputs.

        Args:
            label_smoothing: Share of each target that is spread over all labels: Szegedy
                et al. 2015, https://arxiv.org/abs/1512.00567, section 7.
        """

    @abstractmethod
    def targets(self, labels: Sequence[Any]) -> Any:
        """Turns labels into what the loss and the scores compare with.

        Returns:
            An array (rows, …), or a sequence with an array (words,) for each row.
        """

    def label_smoothing(self, asked: float) -> float:
        """Returns how much of the label smoothing that is asked for the loss uses."""
        return asked

    def weights(self, targets: Any) -> np.ndarray | None:
        """Returns weights of the rows by which all labels count the same; None where that means nothing."""
        return None

    def probabilities(self, outputs: Any) -> np.ndarray:
        """Turns the head's outputs into probabilities of the labels (rows, labels).

        Raises:
            OptionError: If the task has none.
        """
        raise OptionError(
            f"The task {self.name} gives no probabilities; use predict, which gives what it has."
        )

    @abstractmethod
    def score(self, outputs: Any, targets: Any) -> Scores:
        """Scores the head's outputs.

        Args:
            outputs: The head's outputs, a row for each text.
            targets: From `targets`.
        """

    def calibrated(self, outputs: Any, targets: Any) -> Self:
        """Returns the task with what is found on validation rows: a temperature, thresholds."""
        return self

    def abstaining(self, outputs: Any, targets: Any, precision: float) -> Self:
        """Returns the task with a threshold below which it says nothing.

        Args:
            outputs: The head's outputs on validation rows.
            targets: Their targets.
            precision: Share of its answers that shall be right.

        Raises:
            OptionError: If the task always answers.
        """
        self.check_abstains()
        return self

    @classmethod
    def check_abstains(cls) -> None:
        """Checks that the task can say nothing where it is not sure.

        Raises:
            OptionError: If it always answers.
        """
        raise OptionError(f"The task {cls.name} always answers; leave `abstain_below` out.")

    @abstractmethod
    def agreement(self, outputs: Any, targets: Any) -> np.ndarray:
        """Returns how well the outputs of each row fit its target, (rows,); higher is better."""

    def worst(self, outputs: Any, examples: Examples, *, most: int = 10) -> list[dict[str, str]]:
        """Lists the rows that are told wrong, the worst first.

        Args:
            outputs: The head's outputs.
            examples: As many texts with their labels.
            most: Most rows.

        Returns:
            For each row its `text`, its `label` and what is `said`, for people.
        """
        import numpy as np

        found: list[dict[str, str]] = []
        for row in np.argsort(self.agreement(outputs, self.targets(examples.labels)), kind="stable"):
            if len(found) == most:
                break
            text, label = examples.texts[row], examples.labels[row]
            (said,) = self.predictions(outputs[row : row + 1], [text])
            if not self.is_right(said, label):
                found.append(self.shown(said, text, label))
        return found

    def doubtful(self, outputs: Any, examples: Examples, *, most: int = 10) -> list[dict[str, str]]:
        """Lists the rows that the task is least sure of, if it says how sure it is; see `worst`."""
        return []

    @staticmethod
    def shown(prediction: Any, text: Any, label: Any) -> dict[str, str]:
        """Writes a row and what is said of it for people."""
        said = ", ".join(filter(None, prediction.summary()))
        return {"text": _shown(text), "label": _shown(label), "said": said}

    @abstractmethod
    def is_right(self, prediction: Any, label: Any) -> bool:
        """Tells whether a prediction is what a row's label says."""

    @abstractmethod
    def predictions(self, outputs: Any, texts: Sequence[Text]) -> list[Any]:
        """Turns the head's outputs into predictions, one for each text."""

    def to_config(self) -> dict[str, Any]:
        """Returns all that the task is beside its labels, as plain values."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if field.name != "labels"
            for value in [getattr(self, field.name)]
        }

    @classmethod
    def from_config(cls, labels: Sequence[str], config: Mapping[str, Any]) -> Self:
        """Makes the task again from its labels and `to_config`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in config.items()
        }
        return cls(tuple(labels), **values)


def _shown(value: Any) -> str:
    """Writes a text or label for people, cut where it is long."""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = value if isinstance(value, str) else " | ".join(value)
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def as_label(value: Any) -> str | None:
    """Reads a label: a string, a whole number, or true or false."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else None
