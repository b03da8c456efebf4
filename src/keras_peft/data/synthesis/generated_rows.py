"""Extracts usable rows from a model's response, with a reason for each row that is rejected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_peft.inputs.strings import is_unicode

# Parsing stops after this many positions that look like the start of JSON but are not.
_MOST_FAILED_STARTS = 100
_OPENING = re.compile(r"[\[{]")


@dataclass(frozen=True)
class GeneratedRow:
    """A text with its label, as written to the output file."""

    text: str
    label: str

    def to_json(self) -> dict[str, str]:
        """Returns `{"text": …, "label": …}`."""
        return {"text": self.text, "label": self.label}


@dataclass(frozen=True, kw_only=True)
class RowRules:
    """Requirements for a generated row.

    Attributes:
        labels: The allowed labels.
        speakers: Names that must each speak in every text; empty for plain texts.
        min_characters: Minimum number of characters per text.
        max_characters: Maximum number of characters per text.
    """

    labels: Sequence[str]
    speakers: Sequence[str]
    min_characters: int
    max_characters: int

    def check(self, candidate: Mapping[str, Any]) -> GeneratedRow | str:
        """Converts a candidate to a row, or explains why it is rejected.

        Args:
            candidate: JSON object that should contain `text` and `label`.

        Returns:
            The row, with its text on one line, or a short reason for the rejection.
        """
        text, label = candidate.get("text"), candidate.get("label")
        known = self._known(label)
        if known is None:
            return "unknown label"
        if not isinstance(text, str) or not text.strip():
            return "no text"
        if not is_unicode(text):
            return "unpaired surrogate"
        text = self._tidied(text)
        if len(text) < self.min_characters:
            return "too short"
        if len(text) > self.max_characters:
            return "too long"
        if self.speakers and not self._is_dialogue(text):
            return "a speaker is missing"
        if self._gives_away(text, known):
            return "names its label"
        return GeneratedRow(text, known)

    def _known(self, label: object) -> str | None:
        if not isinstance(label, str):
            return None
        same = [known for known in self.labels if known == label.strip()]
        alike = [known for known in self.labels if known.casefold() == label.strip().casefold()]
        return next(iter(same or (alike if len(alike) == 1 else ())), None)

    def _tidied(self, text: str) -> str:
        """Puts a text on one line and removes bold markup from the speakers' names."""
        text = " ".join(text.split())
        names = "|".join(map(re.escape, self.speakers))
        return re.sub(rf"\*+({names})(?::\*+|\*+:)", r"\1:", text) if names else text

    def _is_dialogue(self, text: str) -> bool:
        names = "|".join(map(re.escape, self.speakers))
        spoken = re.findall(rf"(?:^|(?<=\s))({names}):\s*(?!(?:{names}):)\S", text)
        return re.match(rf"(?:{names}):", text) is not None and set(spoken) == set(self.speakers)

    def _gives_away(self, text: str, label: str) -> bool:
        """Reports whether the label occurs as a heading or a tag; it may occur as an ordinary word."""
        word = re.escape(label)
        return re.search(rf"[\[(#<]\s*{word}\s*[\])>:]|#{word}\b|(?:^|:\s){word}\s*:", text, re.I) is not None


def schema_of(labels: Sequence[str]) -> dict[str, Any]:
    """Returns the JSON schema of a response, in the subset that strict modes support.

    Args:
        labels: The allowed labels.
    """
    row = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "label": {"type": "string", "enum": list(labels)},
        },
        "required": ["text", "label"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": row}},
        "required": ["rows"],
        "additionalProperties": False,
    }


def candidates_in(content: str) -> list[Mapping[str, Any]]:
    """Finds the JSON objects with a text in a response, regardless of the surrounding text.

    An object that contains a list, a bare list, one object per line, a code block and surrounding prose
    are all supported. If the response was cut off, the complete objects are returned.

    Args:
        content: Text that the model wrote.

    Returns:
        The objects in their order; empty if there is no JSON.
    """
    # The reasoning of a model may contain drafts of the rows.
    content = content.rpartition("</think>")[2]
    decoder = json.JSONDecoder()
    found: list[Mapping[str, Any]] = []
    position = failed = 0
    while failed < _MOST_FAILED_STARTS and (start := _OPENING.search(content, position)):
        try:
            value, position = decoder.raw_decode(content, start.start())
        except (ValueError, RecursionError):
            failed += 1
            position = start.end()
            continue
        found.extend(_objects_with_text(value))
    return found


def _objects_with_text(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the objects with a text, without recursion, which deeply nested JSON would exhaust."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and "text" in one:
            yield one
        elif isinstance(one, dict | list):
            waiting.extend(reversed(list(one.values()) if isinstance(one, dict) else one))
