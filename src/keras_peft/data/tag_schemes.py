"""Recognises how tags mark entities, and converts other schemes to BIO.

BIO marks the first word of an entity with B- and the others with I-: Ramshaw and Marcus 1995,
https://aclanthology.org/W95-0107. BILOU also marks last words (L-) and single ones (U-), IOBES with E- and S-.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

OUTSIDE = "O"
_FIRST, _LATER = {"B", "U", "S"}, {"I", "L", "E", "M"}
_PREFIXED = re.compile(r"([BILUESM])([-_:])(.+)", re.DOTALL)
_SUFFIXED = re.compile(r"(.+)([-_:])([BILUESM])", re.DOTALL)
_NAMES = (
    ({"L", "U"}, "BILOU"),
    ({"M"}, "BMES"),
    ({"E", "S"}, "IOBES"),
)


def scheme_of(tags: Mapping[str, int]) -> str | None:
    """Recognises the scheme of some tags.

    Args:
        tags: How often each tag occurs.

    Returns:
        "BIO", "BILOU", "IOBES", "BMES", "IO" (one tag per kind, without a mark of the first word), "suffix" (the
        mark comes last, or is joined by another character), or None if the tags mark no entities.
    """
    inside = [tag for tag in tags if tag != OUTSIDE]
    if not inside:
        return None
    parts = [_parts(tag) for tag in inside]
    if all(part is not None for part in parts):
        marks = {part[0] for part in parts if part is not None}
        # Kinds that only occur with one mark could be ordinary tags, such as S-1 and E-1.
        if marks & {"B", "I"} or len(marks) > 1 or (OUTSIDE in tags and marks & {"U", "S"}):
            if any(
                tag != f"{mark}-{label}"
                for tag, (mark, label) in zip(inside, filter(None, parts), strict=True)
            ):
                return "suffix"
            return next((name for own, name in _NAMES if marks & own), "BIO")
    # Most words are outside of entities; of parts of speech, O is one of many.
    mostly_outside = 2 * tags.get(OUTSIDE, 0) >= sum(tags.values())
    if mostly_outside and all(part is None for part in parts) and not any(tag.isdigit() for tag in inside):
        return "IO"
    return None


def to_bio(tags: Sequence[str], scheme: str) -> tuple[str, ...]:
    """Converts the tags of a sentence to BIO.

    Args:
        tags: One tag per word.
        scheme: Their scheme, from `scheme_of`.

    Example:
        >>> to_bio(["U-CITY", "O", "B-NAME", "L-NAME"], "BILOU")
        ('B-CITY', 'O', 'B-NAME', 'I-NAME')
    """
    if scheme == "IO":
        before = [OUTSIDE, *tags[:-1]]
        return tuple(
            tag if tag == OUTSIDE else f"{'I' if tag == last else 'B'}-{tag}"
            for tag, last in zip(tags, before, strict=True)
        )
    converted = []
    previous = None
    for tag in tags:
        part = None if tag == OUTSIDE else _parts(tag)
        if part is None:
            converted.append(tag)
            previous = None
            continue
        mark, label = part
        begins = mark in _FIRST or previous != label
        converted.append(f"{'B' if begins else 'I'}-{label}")
        previous = None if mark in {"U", "S", "L", "E"} else label
    return tuple(converted)


def _parts(tag: str) -> tuple[str, str] | None:
    """Returns the mark and the kind of a tag."""
    if found := _PREFIXED.fullmatch(tag):
        return found[1], found[3]
    if found := _SUFFIXED.fullmatch(tag):
        return found[3], found[1]
    return None
