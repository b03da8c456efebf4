"""Validation of text values."""

from __future__ import annotations


def is_unicode(text: str) -> bool:
    """Reports whether a string can be encoded as UTF-8; JSON escapes allow unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_text(value: object) -> bool:
    """Reports whether a value is a non-blank string that can be encoded as UTF-8."""
    return isinstance(value, str) and bool(value.strip()) and is_unicode(value)
