"""Base class of the tasks: how rows are read, how the head is built, and what its outputs mean."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from keras_peft.errors import DataError, OptionError, listed
from keras_peft.inputs.input import Input, Text
from keras_peft.tasks._intervals import interval
from keras_peft.tasks._scores import Scores

if TYPE_CHECKING:
    import keras
    import numpy as np

Label = str | float | tuple[str, ...]
"""A label: a class name, several class names, a number, or one tag per word."""
_MOST_SHOWN = 400
_MOST_OF_SETTING = 60
UNLABELLED = -1
"""Target of a token that is not the first of a word."""


class Examples(Protocol):
    """Texts with their labels."""

    @property
    def texts(self) -> Sequence[Any]:
        """The texts."""

    @property
    def labels(self) -> Sequence[Any]:
        """One label per text."""


class Prediction(Protocol):
    """Prediction for one text."""

    def to_json(self) -> dict[str, Any]:
        """Returns the prediction as plain values."""

    def cells(self) -> dict[str, Any]:
        """Returns the prediction as table columns."""

    def summary(self) -> tuple[str, str, str]:
        """Returns the answer, its confidence and the alternatives, for display."""


@dataclass(frozen=True)
class Task(ABC):
    """Base class for tasks: what the outputs of a head mean. Each task is a module of its own.

    Args:
        labels: Labels, in the order of the head's outputs.
    """

    name: ClassVar[str]
    input: ClassVar[Input]
    """Default input of the rows."""
    label_column: ClassVar[str]
    """Default name of the label column."""
    per_word: ClassVar[bool]
    """Whether the head predicts a label for each word rather than for the row."""
    default_layers: ClassVar[str | None]
    """Blocks that training adapts by default; None for the method's default."""
    pipeline: ClassVar[str]
    """Pipeline name on the Hugging Face Hub."""
    problem_type: ClassVar[str | None]
    """Value of `problem_type` in a Hugging Face configuration; None if there is none for the task."""

    labels: tuple[str, ...]

    @classmethod
    def accepts(cls, row: Text, label: Any) -> bool:
        """Reports whether a label has the right form for a row.

        Args:
            row: The row, as read by the input.
            label: The label.
        """
        return True

    @classmethod
    def contradict(cls, labels: Collection[Any]) -> bool:
        """Reports whether the labels of one text contradict each other.

        Args:
            labels: The labels that occur with the text.
        """
        return False

    @classmethod
    @abstractmethod
    def from_labels(cls, labels: Sequence[Any]) -> Self:
        """Creates the task from the labels of the training examples.

        Args:
            labels: Labels of the training examples.
        """

    @classmethod
    @abstractmethod
    def check(cls, labels: Sequence[Any], numbers: Sequence[int], source: str) -> None:
        """Checks that the training labels are sufficient to learn from.

        Args:
            labels: Labels of the training examples.
            numbers: Row number of each label.
            source: Name of the data, for messages.

        Raises:
            DataError: If the labels are insufficient, such as a single label for all rows.
        """

    @classmethod
    def strata(cls, labels: Sequence[Any]) -> list[Hashable]:
        """Returns the stratum of each row; both sides of a split get the same proportion of every stratum.

        Args:
            labels: One label per row.
        """
        return list(labels)

    def unknown(self, labels: Iterable[Any]) -> list[str]:
        """Returns the labels that the task does not know, once per row with the label.

        Args:
            labels: One label per row.
        """
        known = set(self.labels)
        return [label for label in labels if label not in known]

    def check_known(self, labels: Iterable[Any], source: str) -> None:
        """Checks that the task knows all labels.

        Args:
            labels: One label per row.
            source: Name of the data, for the message.

        Raises:
            DataError: If a label is unknown.
        """
        if unknown := Counter(self.unknown(labels)):
            words = listed(f"{label!r} ({count} rows)" for label, count in unknown.most_common())
            raise DataError(
                f"{source} has labels that the classifier does not know: {words}; its labels are "
                f"{listed(self.labels, most=40)}."
            )

    @property
    def outputs(self) -> int:
        """Number of outputs of the head."""
        return len(self.labels)

    @property
    def pooling(self) -> str | None:
        """How the head reads the encoder's vectors: one of `POOLINGS`, or None if it reads all of them."""
        return None

    def with_pooling(self, pooling: str) -> Self:
        """Returns the task with another pooling before its head, if the head reads one vector per row.

        Args:
            pooling: One of `POOLINGS`.
        """
        return self

    @abstractmethod
    def head(self, dim: int) -> keras.Model:
        """Builds the head.

        Args:
            dim: Size of the encoder's vectors.

        Returns:
            A model from (batch, length, dim) to (batch, outputs), or to (batch, length, outputs) if the task
            predicts a label for each word.
        """

    @abstractmethod
    def head_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the head's tensors by key, without building the head.

        Args:
            dim: Size of the encoder's vectors.
        """

    @abstractmethod
    def apply_head(self, vectors: np.ndarray, head: Mapping[str, np.ndarray]) -> np.ndarray:
        """Computes the head's outputs without Keras, so that each row of a batch can have its own head.

        Args:
            vectors: Vectors of the encoder, (rows, length, dim) float32.
            head: Tensors of the head, by the keys of `head_shapes`.

        Returns:
            The outputs of the model that `head` builds, float32.
        """

    @property
    @abstractmethod
    def head_layers(self) -> tuple[tuple[str, str | None], ...]:
        """The head's dense layers in order: their names, as in `head_shapes`, and activations."""

    @property
    def activation(self) -> str | None:
        """Activation between the two layers of the head; None if the head has a single layer."""
        return None

    def with_activation(self, activation: str | None) -> Self:
        """Returns the task with another activation in its head, if the head has one.

        Args:
            activation: Name of the activation; None keeps the current one.
        """
        return self

    def from_plain(
        self, kernel: np.ndarray, bias: np.ndarray, labels: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Converts the last layer of a classifier with the same labels to the last layer of this task's head.

        Args:
            kernel: Weights of the classifier's layer, (dim, outputs).
            bias: Biases of the classifier's layer, (outputs,).
            labels: Labels in the order of the classifier's outputs.

        Returns:
            Weights (dim, outputs) and biases (outputs,) whose outputs have the same meaning for this task.
        """
        order = [labels.index(label) for label in self.labels]
        return kernel[:, order], bias[order]

    def to_plain(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Converts the head's last layer to one whose outputs can be read without the task.

        Args:
            kernel: Weights of the head's layer, (dim, outputs).
            bias: Biases of the head's layer, (outputs,).

        Returns:
            The converted weights (dim, outputs) and biases (outputs,).
        """
        return kernel, bias

    def plain(self) -> Self:
        """Returns the task of a head whose last layer was converted by `to_plain`."""
        return self

    @abstractmethod
    def loss(self, label_smoothing: float = 0.0) -> keras.Loss:
        """Returns the loss on the head's outputs.

        Args:
            label_smoothing: Fraction of each target that is spread over all labels: Szegedy
                et al. 2015, https://arxiv.org/abs/1512.00567, section 7.
        """

    @abstractmethod
    def targets(self, labels: Sequence[Any]) -> Any:
        """Converts labels to the targets of the loss and the metrics.

        Args:
            labels: One label per row.

        Returns:
            An array (rows, …), or a sequence with one array (words,) per row.
        """

    def linear_solution(self, vectors: np.ndarray, targets: Any) -> tuple[np.ndarray, np.ndarray]:
        """Fits a regularised linear model, as the start of a head of one layer.

        Args:
            vectors: Standardised vectors of the rows, (rows, dim).
            targets: Targets of the rows, from `targets`.

        Returns:
            The kernel (dim, outputs) and the bias (outputs,).

        Raises:
            OptionError: If the head does not read one vector per row.
        """
        raise OptionError(f"The task {self.name} predicts more than one answer per row.")

    def label_smoothing(self, asked: float) -> float:
        """Returns the label smoothing that the loss uses.

        Args:
            asked: The requested label smoothing.
        """
        return asked

    def weights(self, targets: Any) -> np.ndarray | None:
        """Returns row weights that give all labels the same total weight.

        Args:
            targets: Targets of the rows, from `targets`.

        Returns:
            The weights, (rows,) float32, or None if the task does not support them.
        """
        return None

    def probabilities(self, outputs: Any) -> np.ndarray:
        """Converts the head's outputs to label probabilities, (rows, labels).

        Args:
            outputs: Outputs of the head.

        Raises:
            OptionError: If the task has no probabilities.
        """
        raise OptionError(f"The task {self.name} has no probabilities; use predict instead.")

    @abstractmethod
    def score(self, outputs: Any, targets: Any) -> Scores:
        """Computes the evaluation metrics of the head's outputs.

        Args:
            outputs: Outputs of the head, one row per text.
            targets: Targets of the rows, from `targets`.
        """

    @abstractmethod
    def counts(self, outputs: Any, targets: Any) -> np.ndarray:
        """Returns numbers for each row whose sums determine the main metric, the first of `score`.

        So the metric of resampled rows needs neither their outputs nor their targets.

        Args:
            outputs: Outputs of the head, one row per text.
            targets: Targets of the rows, from `targets`.

        Returns:
            The numbers, (rows, counts) float64; such as, for an accuracy, whether the row is right, and 1.

        Example:
            >>> task.from_counts(task.counts(outputs, targets).sum(axis=0))
            array(0.875)
        """

    @abstractmethod
    def from_counts(self, sums: np.ndarray) -> np.ndarray:
        """Computes the main metric from sums of `counts` over rows.

        Args:
            sums: The sums, (…, counts).

        Returns:
            The metric, (…) float64.
        """

    def baseline(self, labels: Sequence[Any], targets: Any) -> dict[str, Any]:
        """Scores the simplest answer: always the most frequent training label, or the mean.

        Args:
            labels: Labels of the training rows.
            targets: Targets of the validation rows, from `targets`.

        Returns:
            The `answer`, and the `metrics` of giving it for every validation row.
        """
        answer, outputs = self.constant(labels, targets)
        return {"answer": answer, "metrics": self.score(outputs, targets).metrics}

    @abstractmethod
    def constant(self, labels: Sequence[Any], targets: Any) -> tuple[str, Any]:
        """Returns the simplest answer, in words and as outputs of a head for all rows; see `baseline`.

        Args:
            labels: Labels of the training rows.
            targets: Targets of the validation rows, from `targets`.
        """

    def score_with_interval(self, outputs: Any, targets: Any) -> Scores:
        """Computes the evaluation metrics, with a confidence interval of the main one.

        Args:
            outputs: Outputs of the head, one row per text.
            targets: Targets of the rows, from `targets`.
        """
        scores = self.score(outputs, targets)
        return replace(scores, interval=interval(self.score, outputs, targets, scores))

    def calibrated(self, outputs: Any, targets: Any) -> Self:
        """Returns the task calibrated on validation rows: with a temperature, or with thresholds.

        Args:
            outputs: Outputs of the head on the validation rows.
            targets: Targets of the rows, from `targets`.
        """
        return self

    def abstaining(self, outputs: Any, targets: Any, precision: float) -> Self:
        """Returns the task with a threshold below which it does not answer.

        Args:
            outputs: Outputs of the head on validation rows.
            targets: Targets of the rows, from `targets`.
            precision: Target precision of the answers that are given.

        Raises:
            OptionError: If the task always answers.
        """
        self.check_abstains()
        return self

    @classmethod
    def check_abstains(cls) -> None:
        """Checks that the task can abstain from an answer.

        Raises:
            OptionError: If the task always answers.
        """
        raise OptionError(f"The task {cls.name} cannot abstain; remove `abstain_below`.")

    @classmethod
    def check_confident(cls) -> None:
        """Checks that the task has a confidence in its answers.

        Raises:
            OptionError: If it has none.
        """
        raise OptionError(
            f"The task {cls.name} has no confidence in its answers, so it can neither learn from texts without labels "
            "nor choose texts to label."
        )

    def answers(self, outputs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Converts outputs to targets, as if the answers were labels.

        Args:
            outputs: Outputs of the head, one row per text.

        Returns:
            The targets, the confidence in them (rows,), and a group (rows,): confidences are comparable
            within a group.

        Raises:
            OptionError: If the task has no confidence in its answers.
        """
        self.check_confident()
        raise NotImplementedError

    def uncertainty(self, outputs: Any) -> np.ndarray:
        """Returns how unsure the answers are, (rows,) from 0 to 1.

        Args:
            outputs: Outputs of the head, one row per text.

        Raises:
            OptionError: If the task has no confidence in its answers.
        """
        self.check_confident()
        raise NotImplementedError

    def label_counts(self, targets: np.ndarray) -> list[int]:
        """Counts the labels in some targets.

        Args:
            targets: Targets, from `answers`.

        Returns:
            One count per label, in the order of `labels`.
        """
        raise NotImplementedError

    @abstractmethod
    def agreement(self, outputs: Any, targets: Any) -> np.ndarray:
        """Returns how well the outputs of each row match its target; higher is better.

        Args:
            outputs: Outputs of the head.
            targets: Targets of the rows, from `targets`.

        Returns:
            One value per row, (rows,).
        """

    def worst(self, outputs: Any, examples: Examples, *, most: int = 10) -> list[dict[str, str]]:
        """Lists the rows with wrong predictions, the worst first.

        Args:
            outputs: Outputs of the head, one row per text.
            examples: Texts with their labels.
            most: Maximum number of rows.

        Returns:
            For each row its `text`, its `label` and the prediction as `said`, for display.
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
        """Lists the rows with the least confident predictions, if the task has a confidence; see `worst`."""
        return []

    @staticmethod
    def shown(prediction: Any, text: Any, label: Any) -> dict[str, str]:
        """Formats a row and its prediction for display.

        Args:
            prediction: Prediction for the text.
            text: The text.
            label: The right label.
        """
        said = ", ".join(filter(None, prediction.summary()))
        return {"text": _shown(text), "label": _shown(label), "said": said}

    @abstractmethod
    def is_right(self, prediction: Any, label: Any) -> bool:
        """Reports whether a prediction matches the label of its row."""

    @abstractmethod
    def predictions(self, outputs: Any, texts: Sequence[Text]) -> list[Any]:
        """Converts the head's outputs to predictions.

        Args:
            outputs: Outputs of the head, one row per text.
            texts: The texts.

        Returns:
            One prediction per text.
        """

    def to_config(self) -> dict[str, Any]:
        """Returns the settings of the task, without its labels, as plain values."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if field.name != "labels"
            for value in [getattr(self, field.name)]
        }

    @classmethod
    def from_config(cls, labels: Sequence[str], config: Mapping[str, Any]) -> Self:
        """Recreates the task from its labels and its settings.

        Args:
            labels: Labels, in the order of the head's outputs.
            config: Settings from `to_config`.

        Raises:
            OptionError: If a label is not a string or occurs twice, or a setting is unknown or means nothing. The
                message lists all problems.
        """
        known = [field.name for field in fields(cls) if field.name != "labels"]
        unknown = [name for name in config if name not in known]
        problems = (
            [f"There is no setting {quoted(unknown)}; the settings are {listed(known)}."] if unknown else []
        )
        if strange := [label for label in labels if not isinstance(label, str)]:
            problems.append(f"Labels are strings; got {quoted(strange)}.")
        elif twice := sorted(label for label, count in Counter(labels).items() if count > 1):
            problems.append(f"Labels occur only once; got several of {quoted(twice)}.")
        if not problems:
            problems += cls.problems_with(labels, config)
        if problems:
            raise OptionError(" ".join(problems))
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in config.items()
        }
        return cls(tuple(labels), **values)

    @classmethod
    def problems_with(cls, labels: Sequence[str], config: Mapping[str, Any]) -> list[str]:
        """Returns a sentence for each setting that means nothing.

        Args:
            labels: Labels, in the order of the head's outputs.
            config: Settings by name; all of them exist.
        """
        return []


def quoted(value: Any) -> str:
    """Formats a setting that means nothing for a message, and shortens it if it is long."""
    text = repr(value)
    return text if len(text) <= _MOST_OF_SETTING else f"{text[:_MOST_OF_SETTING]}…"


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Returns whether a setting is a finite number in a range.

    Args:
        value: The setting.
        least: Lower bound, inclusive.
        most: Upper bound, inclusive.
    """
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and math.isfinite(value) and least <= value <= most


def _shown(value: Any) -> str:
    """Formats a text or label for display and shortens it if it is long."""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = value if isinstance(value, str) else " | ".join(value)
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
