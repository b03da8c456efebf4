"""The verdict in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from keras_peft.comparing.candidates import is_trained
from keras_peft.comparing.units import duration, rough, short_count
from keras_peft.comparing.verdict import MARGIN
from keras_peft.tasks import metric_name

if TYPE_CHECKING:
    from keras_peft.comparing.verdict import Standing, Verdict

_MOST_NAMED = 4


def sentences(verdict: Verdict) -> list[str]:
    """Says what a comparison shows, in the order of importance.

    Args:
        verdict: The verdict.

    Returns:
        Some sentences: the recommendation and its reason, what is best and what cannot be told apart from it, the
        yardsticks, the rows that are needed, and what the budget left out.
    """
    return [
        *_recommendation(verdict),
        *_best(verdict),
        *_others_to_use(verdict),
        *_yardsticks(verdict),
        *_rows(verdict),
        *_left_out(verdict),
    ]


def measured_on(verdict: Verdict) -> str:
    """Says on which rows the quality was measured.

    Args:
        verdict: The verdict.
    """
    study = verdict.study
    if study.how == "test":
        return f"{study.test_rows:,} test rows that no training saw"
    return f"{study.test_rows:,} rows by cross-validation"


def _recommendation(verdict: Verdict) -> Iterator[str]:
    use, best, metric = verdict.recommended, verdict.best, metric_name(verdict.study.metric)
    if len(verdict.standings) == 1:
        yield f"{best.candidate.title} is the only candidate with results: {metric} {_quality(best)}."
        return
    if not any(is_trained(one.candidate.name) for one in verdict.standings):
        yield "No bundle can be trained with any of these yardsticks; compare them with a method."
        return
    if use is None:
        over = (
            "" if verdict.best_method is None else f", the best of which is {_scored([verdict.best_method])}"
        )
        yield f"Use none of the methods: the {metric} of {_scored([best])} is clearly above that of each{over}."
        return
    title = use.candidate.title
    if verdict.best_method is None:
        yield f"Use {title}: of the candidates that a bundle can be trained with, it has the highest {metric}."
        return
    if not use.is_method:
        yield f"Use {title}: its {metric} is clearly above that of every method."
        return
    rivals = [one for one in verdict.standings if one.is_method and one.place != "below"]
    near = [one for one in rivals if best.quality.value - one.quality.value <= MARGIN]
    if len(near) > 1:
        yield (
            f"Use {title}: it trains in {duration(use.train_seconds)}, the shortest time of the {len(near)} methods "
            f"that are within {MARGIN} of the best {metric} and cannot be told apart from it."
        )
    elif sum(one.is_method for one in verdict.standings) == 1:
        yield f"Use {title}, the only method with results."
    elif use is best and len(rivals) == 1:
        yield f"Use {title}: its {metric} is clearly above that of every other method."
    elif use is best:
        yield f"Use {title}: its {metric} is the highest, and that of no other method is within {MARGIN} of it."
    elif len(rivals) == 1:
        yield f"Use {title}: it is the only method that cannot be told apart from the best {metric}."
    else:
        yield f"Use {title}: of the methods that cannot be told apart from the best {metric}, it is the nearest to it."


def _best(verdict: Verdict) -> Iterator[str]:
    best, same, metric = verdict.best, verdict.same, metric_name(verdict.study.metric)
    if len(verdict.standings) == 1:
        return
    below = len(verdict.standings) - 1 - len(same)
    seeds = f"the mean of {best.seeds} seeds" if best.seeds > 1 else "one seed"
    yield f"{best.candidate.title} has the highest {metric}: {_quality(best)}, {seeds} on {measured_on(verdict)}."
    if not below:
        others = _named(same) if len(same) == 1 else f"None of the {len(same)} others"
        yield f"{others} {'cannot' if len(same) == 1 else 'can'} be told apart from it."
    elif not same:
        yield "It is clearly above all others."
    else:
        yield (
            f"{_named(same)} cannot be told apart from it; "
            f"{f'{below} others are' if below > 1 else 'one other is'} clearly below."
        )


def _others_to_use(verdict: Verdict) -> Iterator[str]:
    """Names the methods that are cheaper than the recommended one in time or parameters."""
    use, cheapest, smallest = verdict.recommended, verdict.cheapest, verdict.smallest
    if cheapest is not None and cheapest is not use:
        behind = verdict.best.quality.value - cheapest.quality.value
        yield (
            f"{cheapest.candidate.title} trains in {duration(cheapest.train_seconds)} and cannot be told apart from "
            f"the best either, but its {metric_name(verdict.study.metric)} is {behind:.3f} lower: more rows could "
            "show a difference."
        )
    if smallest is not None and smallest is not use and smallest is not cheapest:
        yield (
            f"Of the methods that cannot be told apart from the best, {smallest.candidate.title} has the fewest "
            f"trainable parameters: {short_count(smallest.trainable_parameters or 0)}."
        )


def _yardsticks(verdict: Verdict) -> Iterator[str]:
    """Compares the yardsticks with the best method."""
    method, best = verdict.best_method, verdict.best
    if method is None:
        return
    others = [one for one in verdict.standings if not one.is_method and one is not verdict.recommended]
    if best in others and method.place == "below" and verdict.recommended is not None:
        yield f"{_scored([best])} is clearly above the best method, {_scored([method])}."
    if same := [one for one in others if one.place == "same"]:
        yield f"No method is shown to be better than {_scored(same, 'or')}."
    if method is best and (below := [one for one in others if one.place == "below"]):
        yield f"{_scored(below)} {'is' if len(below) == 1 else 'are'} clearly below the best method."


def _rows(verdict: Verdict) -> Iterator[str]:
    """Says how many rows a difference that matters takes, if there are fewer, and whether it also takes more seeds."""
    study = verdict.study
    if verdict.depends_on_seeds:
        yield f"The results depend so much on the seed that a difference of {MARGIN} also takes more seeds to find."
    if verdict.needed is None or verdict.needed[1] <= study.test_rows:
        return
    two, every = verdict.needed
    kind = "test rows" if study.how == "test" else "rows"
    number = len(verdict.standings)
    if number == 2:
        yield (
            f"To find a difference of {MARGIN}, about {rough(two)} {kind} are needed; there are {study.test_rows:,}."
        )
        return
    yield (
        f"To find a difference of {MARGIN} between two candidates, about {rough(two)} {kind} are needed, and "
        f"{rough(every)} if all {number} are compared; there are {study.test_rows:,}."
    )


def _left_out(verdict: Verdict) -> Iterator[str]:
    said = " ".join(verdict.study.left_out)
    if missing := [one for one in verdict.missing if not _names(said, one.name)]:
        yield f"Too few results to compare: {', '.join(one.title for one in missing)}."
    yield from verdict.study.left_out


def _names(text: str, name: str) -> bool:
    """Returns whether a text names a candidate; "lora(rank=4)" does not name "lora"."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w(-])", text) is not None


def _quality(one: Standing) -> str:
    return f"{one.quality.value:.3f} ({one.quality.low:.3f}–{one.quality.high:.3f})"


def _named(some: Sequence[Standing]) -> str:
    """Joins titles; of many, only the best are named."""
    titles = [one.candidate.title for one in some]
    if len(titles) > _MOST_NAMED:
        titles = [*titles[: _MOST_NAMED - 1], f"{len(titles) - _MOST_NAMED + 1} others"]
    return _joined(titles)


def _scored(some: Sequence[Standing], word: str = "and") -> str:
    """Joins titles, with the quality of each."""
    return _joined([f"{one.candidate.title} ({one.quality.value:.3f})" for one in some], word)


def _joined(words: Sequence[str], word: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {word} {words[-1]}"
