"""A tag for each word, such as parts of speech, or names in BIO format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from keras_peft.errors import DataError
from keras_peft.inputs.input import Input, Text
from keras_peft.inputs.words import WordInput
from keras_peft.store import Collector, arrays
from keras_peft.tasks import _task
from keras_peft.tasks._scores import LabelScores, Scores, by_label, f1_of_matches, shares

if TYPE_CHECKING:
    import keras

OUTSIDE = "O"


@dataclass(frozen=True)
class Span:
    """Words that form one entity: from word `start` up to, but excluding, word `end`, counted from 0."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Prediction:
    """Prediction for one text.

    Attributes:
        words: The words.
        tags: One tag per word.
        spans: The marked entities, if the tags are in BIO format.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    spans: tuple[Span, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns `{"tokens": […], "tags": […], "entities": [{"label", "text", "start", "end"}, …]}`."""
        entities = [
            {
                "label": span.label,
                "text": " ".join(self.words[span.start : span.end]),
                "start": span.start,
                "end": span.end,
            }
            for span in self.spans
        ]
        return {"tokens": list(self.words), "tags": list(self.tags), "entities": entities}

    def cells(self) -> dict[str, Any]:
        """Returns the tags, separated by spaces."""
        return {"tags": " ".join(self.tags)}

    def summary(self) -> tuple[str, str, str]:
        """Returns the marked entities, or the tags if there are none."""
        marked = ", ".join(f"{' '.join(self.words[s.start : s.end])} ({s.label})" for s in self.spans)
        return marked or " ".join(self.tags), "", ""


@dataclass(frozen=True)
class Task(_task.Task):
    """Predicts one of several tags for each word.

    The head reads the vector of each word's first token.

    Args:
        labels: Tags, in the order of the head's outputs.
    """

    name: ClassVar[str] = "token-labels"
    problem_type: ClassVar[str | None] = None
    input: ClassVar[Input] = WordInput()
    label_column: ClassVar[str] = "tags"
    per_word: ClassVar[bool] = True
    # The upper blocks of a base model for whole texts retain little information about single words.
    default_layers: ClassVar[str | None] = "all"
    pipeline: ClassVar[str] = "token-classification"

    @classmethod
    def accepts(cls, row: Text, label: tuple[str, ...]) -> bool:
        """Reports whether there is one tag per word."""
        return len(row) == len(label)

    @classmethod
    def from_labels(cls, labels: Sequence[tuple[str, ...]]) -> Self:
        return cls(tuple(sorted({tag for row in labels for tag in row})))

    @classmethod
    def check(cls, labels: Sequence[tuple[str, ...]], numbers: Sequence[int], source: str) -> None:
        found = {tag for row in labels for tag in row}
        if len(found) == 1:
            raise DataError(
                f"{source}: all words have the tag {found.pop()!r}; a tagger needs at least two tags."
            )

    @classmethod
    def strata(cls, labels: Sequence[tuple[str, ...]]) -> list[Hashable]:
        """Returns the rarest tag of each row."""
        counts = Counter(tag for row in labels for tag in row)
        return [min(row, key=lambda tag: (counts[tag], tag)) for row in labels]

    def unknown(self, labels: Iterable[tuple[str, ...]]) -> list[str]:
        return super().unknown(tag for row in labels for tag in row)

    @property
    def marks_spans(self) -> bool:
        """Whether the tags are in BIO format."""
        inside = [tag for tag in self.labels if tag != OUTSIDE]
        return bool(inside) and all(tag[:2] in ("B-", "I-") and len(tag) > 2 for tag in inside)

    def head(self, dim: int) -> keras.Model:
        """Builds the head: dropout and a dense layer at every position.

        It is the head of Hugging Face's DistilBertForTokenClassification.

        Args:
            dim: Size of the encoder's vectors.

        Returns:
            A model from (batch, length, dim) to (batch, length, tags).
        """
        import keras

        vectors = keras.Input((None, dim), name="vectors")
        outputs = keras.layers.Dropout(0.1, name="dropout")(vectors)
        outputs = keras.layers.Dense(
            self.outputs,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="logits",
            dtype="float32",
        )(outputs)
        return keras.Model(vectors, outputs, name="head")

    def head_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        return {"logits/kernel": (dim, self.outputs), "logits/bias": (self.outputs,)}

    @property
    def head_layers(self) -> tuple[tuple[str, str | None], ...]:
        return (("logits", None),)

    def apply_head(self, vectors: np.ndarray, head: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the head's outputs, (rows, length, tags); see `Task.apply_head`."""
        return np.asarray(vectors @ head["logits/kernel"] + head["logits/bias"])

    def loss(self, label_smoothing: float = 0.0) -> keras.Loss:
        """Returns the softmax cross-entropy, averaged over the words of a batch; see `Task.loss`."""
        import keras
        from keras import ops

        labels = len(self.labels)

        class CrossEntropy(keras.losses.Loss):
            def call(self, truth: Any, logits: Any) -> Any:
                truth = ops.cast(truth, "int32")
                is_word = ops.cast(truth != _task.UNLABELLED, logits.dtype)
                each = keras.losses.categorical_crossentropy(
                    ops.one_hot(truth, labels), logits, from_logits=True, label_smoothing=label_smoothing
                )
                # Rows of a batch have different numbers of words; those without words do not count.
                words = ops.sum(is_word, axis=-1)
                with_words = ops.sum(ops.cast(words > 0, logits.dtype))
                usual = ops.maximum(ops.sum(words) / ops.maximum(with_words, 1.0), 1e-6)
                return ops.sum(each * is_word, axis=-1) / usual

        return CrossEntropy(name="cross_entropy")

    def targets(self, labels: Sequence[tuple[str, ...]]) -> Sequence[np.ndarray]:
        """Converts tags to int32 indices, one array (words,) per row."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        targets = Collector(arrays(np.int32))
        for tags in labels:
            targets.add(np.array([numbers[tag] for tag in tags], np.int32))
        return targets.done()

    def constant(
        self, labels: Sequence[tuple[str, ...]], targets: Sequence[np.ndarray]
    ) -> tuple[str, Sequence[np.ndarray]]:
        answer = Counter(tag for row in labels for tag in row).most_common(1)[0][0]
        logits = np.array([label == answer for label in self.labels], np.float32)
        return answer, [np.tile(logits, (len(row), 1)) for row in targets]

    def score(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Scores:
        """Computes the metrics of each row's logits (words, tags) against tag indices (words,).

        For tags in BIO format, the scores count whole spans with their label:
        Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419.
        """
        logits, truth = np.concatenate(outputs), np.concatenate(list(targets))
        predicted = self._said(logits)
        right = _log_softmax(logits)[np.arange(len(truth)), truth]
        accuracy = float((predicted == truth).mean())
        by_tag = by_label(self.labels, truth, predicted)
        present = [self.labels[number] for number in np.union1d(truth, predicted)]
        metrics = {"accuracy": accuracy, "macro_f1": float(np.mean([by_tag[tag].f1 for tag in present]))}
        if self.marks_spans:
            ends = np.cumsum([len(row) for row in targets])[:-1]
            rows = list(zip(np.split(predicted, ends), np.split(truth, ends), strict=True))
            by_tag = self._by_span(rows)
            whole = by_tag.pop("")
            metrics = {
                "entity_f1": whole.f1,
                "entity_precision": whole.precision,
                "entity_recall": whole.recall,
                "accuracy": accuracy,
            }
        return Scores(rows=len(targets), loss=float(-right.mean()), metrics=metrics, labels=by_tag)

    def counts(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """Returns each row's right words and all words, or its right, wrong and missed spans; see `Task.counts`."""
        rows = [(self._said(logits), truth) for logits, truth in zip(outputs, targets, strict=True)]
        if not self.marks_spans:
            return np.array([[float((said == truth).sum()), len(truth)] for said, truth in rows])
        found = []
        for row in rows:
            said, true = self._spans(row)
            found.append([len(said & true), len(said - true), len(true - said)])
        return np.array(found, float)

    def from_counts(self, sums: np.ndarray) -> np.ndarray:
        """Computes the accuracy of the words, or the F1 of the spans; see `Task.from_counts`."""
        return f1_of_matches(sums) if self.marks_spans else shares(sums[..., 0], sums[..., 1])

    def agreement(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the fraction of each row's words that have the right tag, (rows,)."""
        rows = zip(outputs, targets, strict=True)
        return np.array([float((self._said(logits) == truth).mean()) for logits, truth in rows])

    def is_right(self, prediction: Prediction, label: tuple[str, ...]) -> bool:
        return prediction.tags == label

    def predictions(self, outputs: Sequence[np.ndarray], texts: Sequence[Text]) -> list[Prediction]:
        found = []
        for logits, words in zip(outputs, texts, strict=True):
            tags = tuple(self.labels[number] for number in self._said(logits))
            marked = tuple(spans(tags)) if self.marks_spans else ()
            found.append(Prediction(tuple(words), tags, marked))
        return found

    def _said(self, logits: np.ndarray) -> np.ndarray:
        """Returns tag indices (words,); words that were cut off have zero logits and count as outside."""
        outside = self.labels.index(OUTSIDE) if OUTSIDE in self.labels else 0
        return np.where(logits.any(axis=-1), logits.argmax(axis=-1), outside)

    def _spans(self, row: tuple[np.ndarray, np.ndarray]) -> tuple[set[Span], set[Span]]:
        """Returns the predicted and the right spans of a row."""
        said, truth = (set(spans([self.labels[number] for number in numbers])) for numbers in row)
        return said, truth

    def _by_span(self, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, LabelScores]:
        """Scores the spans of each label, and all spans under an empty name."""
        counts: dict[str, Counter[str]] = {"": Counter()}
        for row in rows:
            said, truth = self._spans(row)
            for kind, found in (("said", said), ("true", truth), ("both", said & truth)):
                for span in found:
                    counts.setdefault(span.label, Counter())[kind] += 1
                    counts[""][kind] += 1
        return {label: _scores(counts[label]) for label in sorted(counts)}


def spans(tags: Sequence[str]) -> list[Span]:
    """Finds the spans that BIO tags mark.

    An I- tag that does not follow a word of its own label begins a span, as in conlleval.

    Args:
        tags: One tag per word.

    Returns:
        The spans in their order.

    Example:
        >>> spans(["O", "B-room", "I-room", "B-room"])
        [Span(label='room', start=1, end=3), Span(label='room', start=3, end=4)]
    """
    found: list[Span] = []
    label, start = "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        kind, own = tag[:2], tag[2:] if tag != OUTSIDE else ""
        if label and (own != label or kind == "B-"):
            found.append(Span(label, start, place))
            label = ""
        if own and not label:
            label, start = own, place
    return found


def _scores(counts: Counter[str]) -> LabelScores:
    precision = counts["both"] / counts["said"] if counts["said"] else 0.0
    recall = counts["both"] / counts["true"] if counts["true"] else 0.0
    f1 = 2 * counts["both"] / ((counts["said"] + counts["true"]) or 1)
    return LabelScores(precision, recall, f1, counts["true"])


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
