"""Cells of CSV and TSV files that a spreadsheet would run as formulas.

A spreadsheet runs a cell that begins with =, +, -, @, a tab or a carriage return, whoever wrote it
(https://owasp.org/www-community/attacks/CSV_Injection). Files that keras-peft writes have an apostrophe before such
cells; its readers remove the apostrophe, so that written rows are read back unchanged.

Numbers such as -1.5, and a sign alone, are no formulas and do not change. A cell that already begins with apostrophes
before a formula gets one more, and loses one when it is read, so a file of others and a file of keras-peft that holds
the same rows are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")
_FORMULA = r"(?:[=@\t\r]|[+-](?!(?:(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?%?|inf|nan)?\Z))"
_UNPROTECTED = re.compile(f"'*{_FORMULA}")
_PROTECTED = re.compile(f"'+{_FORMULA}")


def protected(value: T) -> T | str:
    """Returns a cell that a spreadsheet shows as text.

    Args:
        value: The value of the cell. Only strings change.

    Example:
        >>> [protected(value) for value in ("=1+1", "-1.5", "a text", -1.5)]
        ["'=1+1", '-1.5', 'a text', -1.5]
    """
    return f"'{value}" if isinstance(value, str) and _UNPROTECTED.match(value) else value


def as_cells(values: Iterable[Any], *, escape: bool) -> list[Any]:
    """Returns the values of a row for a CSV or TSV file.

    Args:
        values: The values.
        escape: Whether they are protected.
    """
    return [protected(value) if escape else value for value in values]


def unprotected(value: str) -> str:
    """Undoes `protected`.

    Args:
        value: The content of a cell, as it is in the file.

    Example:
        >>> unprotected("'=1+1")
        '=1+1'
    """
    return value[1:] if value.startswith("'") and _PROTECTED.match(value) else value
