"""Makes characters visible that would act on a terminal or reorder a line.

Labels, texts, names of files and messages of servers come from others. An escape sequence in them could change the
title of a terminal's window, move its cursor or hide what follows; an override of the writing direction makes a line
read as another one (Boucher and Anderson 2023, "Trojan Source", https://arxiv.org/abs/2111.00169).
"""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters (C0, DEL and C1), line and paragraph separators, embeddings, overrides and isolates of the
# writing direction, byte order marks, and lone surrogates, which no output can encode.
_HIDDEN = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_ACTING = re.compile(f"[{_HIDDEN}]")
_ACTING_IN_LINES = re.compile(rf"(?![\n\t])[{_HIDDEN}]")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str, *, lines: bool = False) -> str:
    r"""Replaces characters that act on a terminal by their notation in Python.

    Args:
        text: Any text.
        lines: Whether line breaks and tabs are kept.

    Returns:
        The text, in which only printable characters are left.

    Example:
        >>> printable("\x1b]0;title\x07")
        '\\x1b]0;title\\x07'
    """
    return (_ACTING_IN_LINES if lines else _ACTING).sub(lambda found: _notation(found[0]), text)


def json_line(content: Any) -> str:
    r"""Returns content as one line of JSON that a terminal shows safely and that decodes to exactly the content.

    Args:
        content: JSON-serialisable content.

    Example:
        >>> json_line({"label": "\x9b2J"})
        '{"label": "\\u009b2J"}'
    """
    return printable_json(json.dumps(content, ensure_ascii=False))


def printable_json(line: str) -> str:
    """Escapes the characters that act on a terminal in a line of JSON, whose content stays the same.

    Args:
        line: Valid JSON without indentation.
    """
    # Such characters occur in strings only, where JSON allows an escape in place of each.
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _notation(character: str) -> str:
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
