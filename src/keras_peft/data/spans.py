"""Marked spans of a text, which become a tag for each word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# Letters and digits in a row, and single other characters, as `WordInput` splits a text.
_WORD = re.compile(r"\w+|[^\w\s]")
_STARTS, _ENDS = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
_LABELS = ("label", "labels", "tag", "entity", "entity_group", "type", "category")


@dataclass(frozen=True)
class CharacterSpan:
    """A span of a text: from character `start` up to, but excluding, `end`, counted from 0."""

    start: int
    end: int
    label: str


def read_spans(value: Any) -> list[CharacterSpan] | None:
    """Reads spans in the forms that annotation tools write.

    Args:
        value: A list of `[start, end, label]` (doccano, spaCy), `[label, start, end]` (Argilla) or objects with
            a start, an end and a label (Label Studio, Prodigy, doccano).

    Returns:
        The spans, or None if the value is not a list of spans. An empty list has no spans.
    """
    if not isinstance(value, list):
        return None
    spans = [_span(one) for one in value]
    return None if None in spans else [span for span in spans if span is not None]


def _span(value: Any) -> CharacterSpan | None:
    if isinstance(value, dict):
        start, end = (next((value[key] for key in keys if key in value), None) for keys in (_STARTS, _ENDS))
        label = next((value[key] for key in _LABELS if key in value), None)
        if isinstance(label, list) and len(label) == 1:
            label = label[0]
    elif isinstance(value, list | tuple) and len(value) >= 3:
        start, end, label = value[:3]
        if isinstance(start, str):
            label, start, end = value[:3]
    else:
        return None
    if isinstance(start, bool) or isinstance(end, bool) or not isinstance(label, str) or not label.strip():
        return None
    if not isinstance(start, int) or not isinstance(end, int):
        return None
    return CharacterSpan(start, end, label.strip())


def tag_words(text: str, spans: Sequence[CharacterSpan]) -> tuple[tuple[str, ...], tuple[str, ...]] | str:
    """Splits a text into words and tags those of each span in BIO format.

    A word belongs to a span if any of its characters does, because people mark spans imprecisely.

    Args:
        text: The text.
        spans: Its spans.

    Returns:
        The words and their tags, or why there are none: a span outside of the text, or two that overlap.

    Example:
        >>> tag_words("Train to Ulm.", [CharacterSpan(9, 12, "CITY")])
        (('Train', 'to', 'Ulm', '.'), ('O', 'O', 'B-CITY', 'O'))
    """
    found = list(_WORD.finditer(text))
    tags = ["O"] * len(found)
    for span in sorted(spans, key=lambda one: one.start):
        if not 0 <= span.start < span.end <= len(text):
            return "a span outside of its text"
        inside = [n for n, word in enumerate(found) if word.start() < span.end and word.end() > span.start]
        if any(tags[n] != "O" for n in inside):
            return "spans that overlap"
        for n in inside:
            tags[n] = f"{'B' if n == inside[0] else 'I'}-{span.label}"
    return tuple(word.group() for word in found), tuple(tags)


def are_spans(values: Iterable[Any]) -> bool:
    """Reports whether values are lists of spans, and some of them has a span.

    Args:
        values: Decoded cells.
    """
    some = False
    for value in values:
        if value is None or value == []:
            continue
        if not read_spans(value):
            return False
        some = True
    return some
