"""Whether a value is text that can be read and written down."""

from __future__ import annotations


def is_unicode(text: str) -> bool:
    """Tells whether a string can be written down: JSON's escapes allow half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_text(value: object) -> bool:
    """Tells whether a value is a string that has something in it."""
    return isinstance(value, str) and bool(value.strip()) and is_unicode(value)
