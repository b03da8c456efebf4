"""From what a language model answers to rows that can be used, and a reason for each that cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_peft.inputs.strings import is_unicode

# An answer in which this many places look like JSON and are not holds none.
_MOST_FAILED_STARTS = 100
_OPENING = re.compile(r"[\[{]")


@dataclass(frozen=True)
class GeneratedRow:
    """A text with its label, as a line of the file will hold it."""

    text: str
    label: str

    def to_json(self) -> dict[str, str]:
        """Returns the row as it is written."""
        return {"text": self.text, "label": self.label}


@dataclass(frozen=True, kw_only=True)
class RowRules:
    """What a row has to keep.

    Attributes:
        labels: The labels that there are.
        speakers: Who has to say something in each text; nobody where it is empty.
        min_characters: Least characters of a text.
        max_characters: Most characters of a text.
    """

    labels: Sequence[str]
    speakers: Sequence[str]
    min_characters: int
    max_characters: int

    def check(self, candidate: Mapping[str, Any]) -> GeneratedRow | str:
        """Makes a row of what the model gave, or says why it is none.

        Args:
            candidate: A JSON object that should have a text and a label.

        Returns:
            The row, its text on one line, or the reason in a few words.
        """
        text, label = candidate.get("text"), candidate.get("label")
        known = self._known(label)
        if known is None:
            return "unknown label"
        if not isinstance(text, str) or not text.strip():
            return "no text"
        if not is_unicode(text):
            return "half a character"
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
        """Puts a text on one line, and takes the stars off names that a model set in bold."""
        text = " ".join(text.split())
        names = "|".join(map(re.escape, self.speakers))
        return re.sub(rf"\*+({names})(?::\*+|\*+:)", r"\1:", text) if names else text

    def _is_dialogue(self, text: str) -> bool:
        names = "|".join(map(re.escape, self.speakers))
        spoken = re.findall(rf"(?:^|(?<=\s))({names}):\s*(?!(?:{names}):)\S", text)
        return re.match(rf"(?:{names}):", text) is not None and set(spoken) == set(self.speakers)

    def _gives_away(self, text: str, label: str) -> bool:
        """Tells whether the label stands there as a heading or a tag; as a word among others it may."""
        word = re.escape(label)
        return re.search(rf"[\[(#<]\s*{word}\s*[\])>:]|#{word}\b|(?:^|:\s){word}\s*:", text, re.I) is not None


def schema_of(labels: Sequence[str]) -> dict[str, Any]:
    """Returns the JSON schema of an answer, in the subset that strict modes take.

    Args:
        labels: The labels that there are.
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
    """Finds the JSON objects that have a text in an answer, whatever stands around them.

    One object with a list in it, a bare list, one object a line, a code block and
    prose around them are all read. Of an answer that was cut off the whole objects are.

    Args:
        content: What the model wrote.

    Returns:
        The objects in their order; none where there is no JSON.
    """
    # What a model thinks aloud may hold drafts of the rows.
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
    """Walks through what was read without a recursion of its own, which deep JSON would exhaust."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and "text" in one:
            yield one
        elif isinstance(one, dict | list):
            waiting.extend(reversed(list(one.values()) if isinstance(one, dict) else one))
