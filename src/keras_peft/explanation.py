"""Explain predictions by occlusion: each word is left out in turn and the rest is classified again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.errors import OptionError, did_you_mean, listed

if TYPE_CHECKING:
    import tokenizers

    from keras_peft.inputs.input import Text
    from keras_peft.predict import Classifier
    from keras_peft.tasks import Task

UNIT = "log-odds"
"""The unit of the weights: the natural logarithm of p / (1 - p)."""
MOST_RUNS = 100
"""Maximum parts of a row to leave out in turn; longer rows are split into runs of words."""
# Probabilities closer to 0 or 1 than this are clipped.
_LEAST = 1e-12
# Scripts without spaces between words; each character counts as a word.
_SPACELESS = r"\p{Han}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]&&[^{_SPACELESS}]]"
# Numbers, words with apostrophes, a repeated punctuation mark, and any other visible character.
_WORD = rf"\p{{N}}+(?:[.,]\p{{N}}+)+|{_LETTER}+(?:['’]{_LETTER}+)*|([!?.])\1+|(?!\s)\X"


@dataclass(frozen=True)
class Word:
    """A word of a text, or a run of words if the text is long.

    Attributes:
        start: Offset of its first character in its text.
        end: Offset after its last character.
        text: The characters of the word.
        part: Index of its text: 1 for the second text of a pair, else 0.
        weight: How much the label's log-odds fall when only this word is left out. Positive
            values support the label, negative values oppose it. None if the text was
            truncated before the word.
        without: The label's probability without the word.
    """

    start: int
    end: int
    text: str
    part: int = 0
    weight: float | None = None
    without: float | None = None


@dataclass(frozen=True)
class Explanation:
    """The words of a text that support or oppose a label.

    Attributes:
        text: The text, with surrounding whitespace removed, or the pair of texts.
        label: The explained label.
        probability: Probability of that label.
        probabilities: Probability of every label, most probable first.
        words: The words of the text in order, including punctuation.
        run_length: Maximum number of words left out together; 1 if each is left out alone.
        abstain_below: Minimum probability at which the classifier answers with a label, if
            it has such a threshold.
    """

    text: Text
    label: str
    probability: float
    probabilities: dict[str, float]
    words: tuple[Word, ...]
    run_length: int = 1
    abstain_below: float | None = None

    @property
    def is_withheld(self) -> bool:
        """Whether every label is below the classifier's `abstain_below` threshold."""
        return max(self.probabilities.values()) < (self.abstain_below or 0)

    @property
    def texts(self) -> tuple[str, ...]:
        """The text as a tuple of one, or both texts of a pair."""
        return _texts(self.text)

    def strongest(self, most: int = 10) -> list[tuple[Word, float]]:
        """Returns the words with the largest absolute weights, largest first.

        Args:
            most: Maximum number of words.

        Returns:
            Pairs of word and weight.
        """
        weighed = [(word, word.weight) for word in self.words if word.weight is not None]
        return sorted(weighed, key=lambda pair: -abs(pair[1]))[:most]

    @property
    def scale(self) -> float:
        """The largest absolute weight, at least 1, so that small weights are not drawn as large ones."""
        return max(1.0, *(abs(weight) for _, weight in self.strongest(1)))

    @property
    def unread(self) -> int:
        """Number of words that the base did not read because the text was truncated."""
        return sum(word.weight is None for word in self.words)

    def pieces(self, part: int = 0) -> Iterator[tuple[str, Word | None]]:
        """Iterates over a whole text: its words, and the characters between them with None.

        Args:
            part: Index of the text: 1 for the second text of a pair.
        """
        at, text = 0, self.texts[part]
        for word in (word for word in self.words if word.part == part):
            if word.start > at:
                yield text[at : word.start], None
            yield word.text, word
            at = word.end
        if at < len(text):
            yield text[at:], None

    def to_json(self) -> dict[str, Any]:
        """Returns the explanation as plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Occlusion:
    """A text and the variants of it with one run of words left out.

    Attributes:
        text: The text, or the pair of texts.
        seen: The part of the text, or of both texts, that the base reads.
        runs: The runs to leave out: index of the text, offset of the first character and
            offset after the last.
        run_length: Maximum number of words left out together.
    """

    text: Text
    seen: tuple[str, ...]
    runs: tuple[tuple[int, int, int], ...]
    run_length: int

    @classmethod
    def of(cls, text: Text, seen: tuple[str, ...], *, most_runs: int = MOST_RUNS) -> Occlusion:
        """Splits a text into the runs to leave out.

        Args:
            text: A text or a pair, as returned by `Classifier.read`.
            seen: From `Tokenizer.seen`.
            most_runs: Approximate maximum number of runs.

        Raises:
            OptionError: If `most_runs` is below 1.
        """
        if most_runs < 1:
            raise OptionError(f"`most_runs={most_runs}`: expected a number of at least 1.")
        # Text past the truncation is always left out; otherwise it would move up when a word is removed.
        spans = [
            [span for span in _words(one) if span[0] < len(cut)]
            for one, cut in zip(_texts(text), seen, strict=True)
        ]
        length = max(1, math.ceil(sum(map(len, spans)) / most_runs))
        runs = [(part, start, end) for part, own in enumerate(spans) for start, end in _joined(own, length)]
        return cls(text, seen, tuple(runs), length)

    @property
    def rows(self) -> list[Text]:
        """The rows to classify: the text, then the text without each run."""
        return [self.text, *(_without(self.seen, *run) for run in self.runs)]

    def explanation(self, task: Task, probabilities: np.ndarray, label: str | None = None) -> Explanation:
        """Computes the weight of each run from the probabilities.

        Args:
            task: The task.
            probabilities: Probabilities of `rows`, of shape (rows, labels).
            label: The label to explain. Defaults to the most probable label of the text.
        """
        texts = _texts(self.text)
        order = np.argsort(-probabilities[0], kind="stable")
        number = int(order[0]) if label is None else task.labels.index(label)
        own = probabilities[:, number]
        clipped = np.clip(own, _LEAST, 1 - _LEAST)
        log_odds = np.log(clipped) - np.log1p(-clipped)
        words = [
            Word(start, end, texts[part][start:end], part, float(log_odds[0] - after), float(without))
            for (part, start, end), after, without in zip(self.runs, log_odds[1:], own[1:], strict=True)
        ]
        words += [
            Word(start, end, one[start:end], part)
            for part, (one, cut) in enumerate(zip(texts, self.seen, strict=True))
            for start, end in _words(one)
            if start >= len(cut)
        ]
        return Explanation(
            text=self.text,
            label=task.labels[number],
            probability=float(own[0]),
            probabilities={task.labels[n]: float(probabilities[0, n]) for n in order},
            words=tuple(sorted(words, key=lambda word: (word.part, word.start))),
            run_length=self.run_length,
            abstain_below=getattr(task, "abstain_below", None),
        )


def explain(
    classifier: Classifier,
    texts: Iterable[Any],
    *,
    label: str | None = None,
    most_runs: int = MOST_RUNS,
    advance: Callable[[int], None] | None = None,
) -> list[Explanation]:
    """Explains which words drove a classifier's predictions, by occlusion.

    Each word is left out in turn, as in Li, Monroe and Jurafsky 2016, "Understanding Neural
    Networks through Representation Erasure", https://arxiv.org/abs/1612.08220. Its weight is
    the drop in the label's log-odds. A text of more than `most_runs` words is split into about
    that many runs of adjacent words, each left out as a whole, which bounds the cost.

    If several words contain the same information, each of them may get a small weight, because
    the others are still there when it is left out.

    Args:
        classifier: A classifier whose task predicts label probabilities.
        texts: Texts, or pairs of texts if the classifier reads pairs, as for
            `Classifier.predict`.
        label: The label to explain. Defaults to the most probable label of each text.
        most_runs: Approximate maximum number of words or runs of words to leave out. A larger
            number gives a finer explanation but takes longer.
        advance: Called with 1 after each text.

    Returns:
        One explanation per text, in order.

    Raises:
        OptionError: If the classifier has no probabilities or does not know the label, or
            `most_runs` is below 1.
        DataError: If a text is empty or not a string.

    Example:
        >>> text = "The acting was great but the budget was evidently very limited."
        >>> classifier = keras_peft.load("sentiment")
        >>> explanation = keras_peft.explain(classifier, [text], label="negative")[0]
        >>> [(word.text, round(weight, 2)) for word, weight in explanation.strongest(2)]
        [('limited', 2.54), ('great', -1.38)]
    """
    check_explainable(classifier.task, label)
    explanations = []
    for text in classifier.read_all(texts):
        occlusion = Occlusion.of(text, classifier.seen(text), most_runs=most_runs)
        probabilities = classifier.probabilities(occlusion.rows)
        explanations.append(occlusion.explanation(classifier.task, probabilities, label))
        if advance:
            advance(1)
    return explanations


def check_explainable(task: Task, label: str | None = None) -> None:
    """Checks that a task's predictions can be explained.

    Args:
        task: The task.
        label: The label to explain, if one is chosen.

    Raises:
        OptionError: If the task has no probabilities or does not know the label.
    """
    try:
        task.probabilities(np.zeros((1, task.outputs), np.float32))
    except OptionError:
        raise OptionError(
            f"The task {task.name} has no label probabilities, which explanations are based on; "
            "expected a classifier of texts or pairs."
        ) from None
    if label is not None and label not in task.labels:
        raise OptionError(
            f"The classifier does not have the label {label!r}.{did_you_mean(label, task.labels)} Its "
            f"labels are {listed(task.labels, most=40)}."
        )


def as_html(explanations: Sequence[Explanation], source: str) -> str:
    """Renders explanations as one HTML page, with light and dark themes and without scripts.

    Args:
        explanations: At least one explanation.
        source: Description of the classifier, shown on the page.
    """
    from keras_peft.templating import environment

    return environment().get_template("explain.html").render(explanations=explanations, source=source)


def _texts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _words(text: str) -> list[tuple[int, int]]:
    """Returns the start and end offsets of the words of a text."""
    return [span for _, span in _splitter().pre_tokenize_str(text)]


@cache
def _splitter() -> tokenizers.pre_tokenizers.PreTokenizer:
    # Python's regular expressions do not support Unicode scripts; those of tokenizers do.
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return Split(Regex(_WORD), "removed", invert=True)


def _joined(spans: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Joins adjacent spans into runs of `length`."""
    edges = [*range(0, len(spans), length), len(spans)]
    return [(spans[first][0], spans[after - 1][1]) for first, after in pairwise(edges) if after > first]


def _without(texts: Sequence[str], part: int, start: int, end: int) -> Text:
    """Removes a run of characters from one of the texts, along with one adjacent space."""
    before, after = texts[part][:start], texts[part][end:]
    if not before or before[-1].isspace():
        after = after[1:] if after[:1].isspace() else after
    changed = [*texts[:part], before + after, *texts[part + 1 :]]
    return changed[0] if len(changed) == 1 else tuple(changed)
