"""Reading of JSON files from strangers: within limits, and without values that mean nothing.

Fields are checked by `schemas.py`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

MOST_BYTES = 4 << 20
"""Larger files are not read; real ones have some kilobytes."""
MOST_DEPTH = 64
"""Deeper nesting is refused; real files have less than ten levels."""
_LARGEST = int(sys.float_info.max)


class JsonError(ValueError):
    """Raised when a text is not a JSON object within the limits; the message follows the name of the file."""


def read_object(path: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Reads a JSON file that contains an object.

    Args:
        path: The file.
        most_bytes: Maximum size of the file, in bytes.

    Raises:
        JsonError: If it is larger, is not JSON or not an object, is nested too deeply, or contains an unpaired
            surrogate or a number that is not finite or too large.
        OSError: If it cannot be read.

    Example:
        >>> read_object(Path("my-bundle/bundle.json"))["labels"]
        ['mood', 'question']
    """
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise JsonError(f"has more than {most_bytes:,} bytes")
    return parse_object(content)


def parse_object(content: bytes) -> dict[str, Any]:
    """Parses the content of a JSON file; see `read_object`.

    Args:
        content: The content, in UTF-8.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=without_repetition)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(f"is nested more than {MOST_DEPTH} levels deep") from None
    except ValueError as error:
        raise JsonError(f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise JsonError("is not a JSON object")
    _refuse_strange(value)
    return value


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object from its names and values, for the `object_pairs_hook` of `json.loads`.

    Another reader could take another one of the values of a repeated name than the checks.

    Args:
        pairs: The names and values.

    Raises:
        JsonError: If a name is repeated.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        raise JsonError("repeats a name in one object")
    return made


def _refuse_strange(value: dict[str, Any]) -> None:
    """Refuses deep nesting, numbers that no format uses, and strings that cannot be written to a terminal."""
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH):
        following: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                following += one.keys()
                following += one.values()
            elif isinstance(one, list):
                following += one
            elif isinstance(one, str):
                _refuse_surrogates(one)
            elif isinstance(one, int) and abs(one) >= _LARGEST:
                raise JsonError("has a whole number of more than 300 digits")
            elif isinstance(one, float) and not math.isfinite(one):
                raise JsonError(f"has the number {one}")
        if not following:
            return
        level = following
    raise JsonError(f"is nested more than {MOST_DEPTH} levels deep")


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise JsonError("contains an unpaired surrogate; expected valid Unicode") from None
