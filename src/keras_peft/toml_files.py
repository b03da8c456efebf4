"""Reading of TOML files within limits: settings, keys and spaces."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 4 << 20
"""Larger files are not read; real ones have some kilobytes."""


class TomlError(ValueError):
    """Raised when a file is not TOML within the limits; the message follows the name of the file."""


def read_table(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Args:
        path: The file.

    Raises:
        TomlError: If it is larger than 4 MiB, is not UTF-8 or TOML, or is nested too deeply.
        OSError: If it cannot be read.

    Example:
        >>> read_table(Path("my-bundle/run.toml"))["method"]
        'lora'
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise TomlError(f"has more than {MOST_BYTES:,} bytes")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        raise TomlError(f"is not valid TOML: {error}") from None
    except RecursionError:
        raise TomlError("is nested too deeply") from None
