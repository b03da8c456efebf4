"""Which words carried a decision: each is left out in turn, and the rest is classified again."""

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
"""What weights are told in: the natural logarithm of p / (1 - p)."""
MOST_RUNS = 100
"""Most parts of a row that are left out in turn; longer ones are parted into runs of words."""
# Nearer to 0 and 1 than this all probabilities are the same.
_LEAST = 1e-12
# Scripts that put no space between words, of which each character is taken for one.
_SPACELESS = r"\p{Han}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]&&[^{_SPACELESS}]]"
# Numbers, words with their apostrophes, one mark again and again, and any other character as it is seen.
_WORD = rf"\p{{N}}+(?:[.,]\p{{N}}+)+|{_LETTER}+(?:['’]{_LETTER}+)*|([!?.])\1+|(?!\s)\X"


@dataclass(frozen=True)
class Word:
    """A word of a text, or a run of some where the text is long.

    Attributes:
        start: The place of its first character in its text.
        end: The place after its last.
        text: What stands there.
        part: The number of its text, which is 1 for the second of a pair.
        weight: By how much the label's log-odds fall when it alone is left out: above 0 it
            speaks for the label, below 0 against it. None where the text was cut before it.
        without: The label's probability then.
    """

    start: int
    end: int
    text: str
    part: int = 0
    weight: float | None = None
    without: float | None = None


@dataclass(frozen=True)
class Explanation:
    """Which words of a text speak for a label.

    Attributes:
        text: The text, without space around it, or the pair.
        label: The label that is explained.
        probability: Its probability.
        probabilities: Of every label, most probable first.
        words: Those of the text in their order, marks among them.
        run_length: Most words that are left out together; 1 where each is by itself.
        abstain_below: The least probability with which the classifier says a label, if it
            was told one.
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
        """Whether no label is probable enough for the classifier to say it."""
        return max(self.probabilities.values()) < (self.abstain_below or 0)

    @property
    def texts(self) -> tuple[str, ...]:
        """The text alone, or both of a pair."""
        return _texts(self.text)

    def strongest(self, most: int = 10) -> list[tuple[Word, float]]:
        """Lists words with their weights, the largest first, whichever way they speak."""
        weighed = [(word, word.weight) for word in self.words if word.weight is not None]
        return sorted(weighed, key=lambda pair: -abs(pair[1]))[:most]

    @property
    def scale(self) -> float:
        """The largest weight, and 1 at least, so that little is not drawn as much."""
        return max(1.0, *(abs(weight) for _, weight in self.strongest(1)))

    @property
    def unread(self) -> int:
        """How many words the base did not read, since the text was cut before them."""
        return sum(word.weight is None for word in self.words)

    def pieces(self, part: int = 0) -> Iterator[tuple[str, Word | None]]:
        """Goes through all of a text: its words, and what stands between them with None."""
        at, text = 0, self.texts[part]
        for word in (word for word in self.words if word.part == part):
            if word.start > at:
                yield text[at : word.start], None
            yield word.text, word
            at = word.end
        if at < len(text):
            yield text[at:], None

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Occlusion:
    """A text, and what is left of it when each of its words is left out in turn.

    Attributes:
        text: The text, or the pair.
        seen: It, or both of it, as far as the base reads.
        runs: What is left out: the number of the text, and the places of the first character
            and after the last.
        run_length: Most words that are left out together.
    """

    text: Text
    seen: tuple[str, ...]
    runs: tuple[tuple[int, int, int], ...]
    run_length: int

    @classmethod
    def of(cls, text: Text, seen: tuple[str, ...]) -> Occlusion:
        """Parts a text into what is left out.

        Args:
            text: A text or a pair, as it is read.
            seen: From `Tokenizer.seen`.
        """
        # The rest of a cut text is left out throughout, or it would move up when a word goes.
        spans = [
            [span for span in _words(one) if span[0] < len(cut)]
            for one, cut in zip(_texts(text), seen, strict=True)
        ]
        length = max(1, math.ceil(sum(map(len, spans)) / MOST_RUNS))
        runs = [(part, start, end) for part, own in enumerate(spans) for start, end in _joined(own, length)]
        return cls(text, seen, tuple(runs), length)

    @property
    def rows(self) -> list[Text]:
        """What has to be told the label of: the text, and what is left of it without each run."""
        return [self.text, *(_without(self.seen, *run) for run in self.runs)]

    def explanation(self, task: Task, probabilities: np.ndarray, label: str | None = None) -> Explanation:
        """Tells by how much each run changed what was said.

        Args:
            task: The task.
            probabilities: Those of the rows (rows, labels).
            label: The label to explain; the most probable of the text by default.
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
    advance: Callable[[int], None] | None = None,
) -> list[Explanation]:
    """Tells which words carried a classifier's decisions, by occlusion.

    Each word is left out in turn, as in Li, Monroe and Jurafsky 2016, "Understanding Neural
    Networks through Representation Erasure", https://arxiv.org/abs/1612.08220. Its weight is
    how much the log-odds of the label fall. A text of more than `MOST_RUNS` words is parted into
    about as many runs of neighbours, which are left out together, so that its cost is bounded.

    Words that say the same thing twice cover for one another: each alone may weigh little.

    Args:
        classifier: One that gives labels with probabilities.
        texts: Texts, or pairs of them where two are read together, as `Classifier.predict` takes.
        label: The label to explain; the most probable of each text by default.
        advance: Called with 1 after each text.

    Returns:
        As many explanations, in their order.

    Raises:
        OptionError: If the classifier gives no probabilities, or does not know the label.
        DataError: If a text is empty or is no string.

    Example:
        >>> text = "The acting was great but the budget was evidently very limited."
        >>> explanation = explain(load("sentiment"), [text], label="negative")[0]
        >>> [(word.text, round(weight, 2)) for word, weight in explanation.strongest(2)]
        [('limited', 2.54), ('great', -1.38)]
    """
    check_explainable(classifier.task, label)
    explanations = []
    for text in classifier.read_all(texts):
        occlusion = Occlusion.of(text, classifier.seen(text))
        probabilities = classifier.probabilities(occlusion.rows)
        explanations.append(occlusion.explanation(classifier.task, probabilities, label))
        if advance:
            advance(1)
    return explanations


def check_explainable(task: Task, label: str | None = None) -> None:
    """Checks that a task's decisions can be explained.

    Args:
        task: The task.
        label: The label that shall be explained.

    Raises:
        OptionError: If it gives no probabilities, or does not know the label.
    """
    try:
        task.probabilities(np.zeros((1, task.outputs), np.float32))
    except OptionError:
        raise OptionError(
            f"The task {task.name} gives no probabilities of labels, whose fall is what explains a decision; "
            "expected a bundle that gives texts or pairs labels."
        ) from None
    if label is not None and label not in task.labels:
        raise OptionError(
            f"The label {label!r} cannot be explained: the classifier does not know it."
            f"{did_you_mean(label, task.labels)} It knows {listed(task.labels, most=40)}."
        )


def as_html(explanations: Sequence[Explanation], source: str) -> str:
    """Renders explanations as one page without scripts, light and dark.

    Args:
        explanations: At least one.
        source: What told the labels, for people.
    """
    from keras_peft.templating import environment

    return environment().get_template("explain.html").render(explanations=explanations, source=source)


def _texts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _words(text: str) -> list[tuple[int, int]]:
    """Finds where the words of a text start and end."""
    return [span for _, span in _splitter().pre_tokenize_str(text)]


@cache
def _splitter() -> tokenizers.pre_tokenizers.PreTokenizer:
    # The tokenizers' regular expressions know the scripts of Unicode, which Python's do not.
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return Split(Regex(_WORD), "removed", invert=True)


def _joined(spans: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Joins each so many neighbours."""
    edges = [*range(0, len(spans), length), len(spans)]
    return [(spans[first][0], spans[after - 1][1]) for first, after in pairwise(edges) if after > first]


def _without(texts: Sequence[str], part: int, start: int, end: int) -> Text:
    """Leaves out some characters of one of the texts, and one of the spaces around them."""
    before, after = texts[part][:start], texts[part][end:]
    if not before or before[-1].isspace():
        after = after[1:] if after[:1].isspace() else after
    changed = [*texts[:part], before + after, *texts[part + 1 :]]
    return changed[0] if len(changed) == 1 else tuple(changed)
