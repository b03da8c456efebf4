"""What JSON and JSON Lines have in common."""

from __future__ import annotations

import json
from typing import Any

from keras_peft.data.readers._table import Row

_AROUND = 12


def as_row(value: Any) -> Row | None:
    """Returns the row that a value stands for.

    Args:
        value: An object; or a list of a text and its label, or of a text and an object with its annotations,
            as in spaCy's training examples.

    Returns:
        The row, or None if the value is neither.
    """
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        return None
    text, other = value
    if isinstance(other, dict):
        return {**other, "text": text}
    return {"text": text, "label": other}


def near(text: str, error: ValueError | RecursionError) -> str:
    """Says where a text stops being JSON.

    Args:
        text: The text.
        error: The error of the decoder.
    """
    if not isinstance(error, json.JSONDecodeError):
        return "nested too deeply" if isinstance(error, RecursionError) else "a number that is too long"
    around = text[max(0, error.pos - _AROUND) : error.pos + _AROUND].strip()
    if error.msg.startswith("Unterminated"):
        return f"a string is never closed: {text[error.pos : error.pos + 2 * _AROUND]!r}"
    if not text[error.pos :].strip():
        return f"it ends too early, after {around!r}" if around else "it ends too early"
    return f"near {around!r}"
