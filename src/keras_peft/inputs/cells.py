"""Reads table cells: texts, and values that encode lists in JSON, Python or NumPy, sets, and choices."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from typing import Any

# Longer cells are texts.
_LONGEST = 1 << 20
_QUOTED = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# NumPy writes values without commas; Python would join adjacent strings.
_NUMPY_STRINGS = re.compile(rf"\[\s*{_QUOTED}(?:\s+{_QUOTED})*\s*\]")
_NUMPY_NUMBERS = re.compile(rf"\[\s*{_NUMBER}(?:\s+{_NUMBER})*\s*\]")
_ARRAY = re.compile(r"array\((\[.*\])(?:,\s*dtype=[\w'<>.]+)?\)", re.DOTALL)
_SET = re.compile(r"(?:frozen)?set\((.*)\)", re.DOTALL)
# The first characters of lists, sets and tuples, `array(…)`, `set(…)`, `frozenset(…)` and `c(…)`.
_OPENING = "[{(asfc"
# np.int64(1) and np.str_('a').
_NUMPY_2 = re.compile(rf"np\.\w+\(({_QUOTED}|{_NUMBER}|True|False)\)")
# Arrays of Athena, [a, b], and Postgres, {a,b}.
_BARE = re.compile(r"\[[\w][\w .-]*(?:,\s*[\w][\w .-]*)+\]|\{[\w][\w .-]*(?:,\s*[\w][\w .-]*)*\}")
_NUMERIC_LIST = re.compile(r"[\[{][\d\s.,-]*[\]}]|.*\b(?:nan|None|True|False)\b.*")
_R_VECTOR = re.compile(rf"c\({_QUOTED}(?:,\s*{_QUOTED})*\)")
_NAN = re.compile(r"(?<=[\[,\s])nan(?=[\],\s])")
_ADJACENT = re.compile(r"['\"]\s+['\"]")


def decode(value: Any) -> Any:
    """Decodes a cell that may contain several values.

    Args:
        value: The cell. Strings such as `["a", "b"]`, `['a', 'b']`, `['a' 'b']`, `[1 0 0]`, `{'a', 'b'}` and
            `{"choices": ["a"]}` become lists, and so do the arrays of NumPy 2, Postgres, Athena and R.

    Returns:
        A list, a string, a number, a boolean, None for a missing value, or an object of another kind.

    Example:
        >>> decode("['bus', 'late']"), decode('{"choices": ["bus"]}'), decode("bus")
        (['bus', 'late'], ['bus'], 'bus')
    """
    if isinstance(value, str):
        value = _parsed(value.strip())
    if isinstance(value, dict):
        return _decoded_object(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def listed(value: Any) -> list[Any] | None:
    """Returns the items of a cell if it contains a list, else None.

    Args:
        value: The cell.
    """
    decoded = decode(value)
    return decoded if isinstance(decoded, list) else None


def text_of(value: object) -> str:
    """Returns the text of a table cell without surrounding whitespace; numbers are written out.

    Args:
        value: The cell.

    Returns:
        The text; "" if the cell contains none.
    """
    if isinstance(value, float):
        return "" if value != value else f"{value:.15g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _decoded_object(value: dict[str, Any]) -> Any:
    if isinstance(value.get("choices"), list | str):
        chosen = value["choices"]
        return chosen if isinstance(chosen, list) else [chosen]
    return value


def _parsed(text: str) -> Any:
    """Returns the list, set or object that a string encodes, or the string."""
    if not text or text[0] not in _OPENING or text[-1] not in "]})" or len(text) > _LONGEST:
        return text
    if found := _ARRAY.fullmatch(text):
        return _parsed(found[1])
    written, text = text, _NUMPY_2.sub(r"\1", text)
    if text in ("set()", "frozenset()"):
        return []
    if (found := _SET.fullmatch(text)) and found[1][:1] in "[{":
        return _parsed(found[1])
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return value if isinstance(value, list | dict) else written
    if _NUMPY_STRINGS.fullmatch(text):
        return [_literal(part) for part in re.findall(_QUOTED, text)]
    if _NUMPY_NUMBERS.fullmatch(text):
        return [float(part) if re.search("[.eE]", part) else int(part) for part in text[1:-1].split()]
    if _BARE.fullmatch(text) and not _NUMERIC_LIST.fullmatch(text):
        return [part.strip() for part in text[1:-1].split(",")]
    if _R_VECTOR.fullmatch(text):
        return [_literal(part) for part in re.findall(_QUOTED, text)]
    if _ADJACENT.search(text):
        return written
    text = _NAN.sub("None", text)
    value = _literal(text)
    return value if isinstance(value, list | tuple | set | frozenset | dict) else written


def _literal(text: str) -> Any:
    """Returns the value of a Python literal, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
