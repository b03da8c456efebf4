"""Limits on what a file may expand to, so that a small file cannot take all memory or run for hours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from keras_peft.errors import DataError
from keras_peft.memory import limit_bytes
from keras_peft.storage_limits import UNPACKED, unpacked_limit

LONGEST = 1 << 25
"""Maximum characters of a line, a row or a value."""
HEAVIEST_BATCH = 1 << 26
"""Approximate characters of the rows that are read together."""
MOST_TOKENS = 1 << 20
"""Maximum tokens of a sentence."""
_UNKNOWN_MEMORY = 8 << 30


def memory() -> int:
    """Returns the bytes of memory that this process may use."""
    return limit_bytes() or _UNKNOWN_MEMORY


def too_long(place: str, *, hint: str = "") -> DataError:
    """Returns the error for a line, a row or a value that is longer than any text to classify.

    Args:
        place: The file and where in it, for the message.
        hint: What else may be the cause, as a sentence.
    """
    return DataError(
        f"{place}: a row has more than {LONGEST >> 20} million characters; expected one text in each row, so split it."
        f"{hint}"
    )


def lines_of(file: TextIO, path: Path) -> Iterator[str]:
    """Yields the lines of a file.

    Args:
        file: The open file.
        path: The file, for messages.

    Raises:
        DataError: If a line is longer than `LONGEST`.
    """
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise too_long(f"{path}, line {number}")
        yield line


class Unpacking:
    """Counts the bytes that a compressed file has expanded to.

    Args:
        path: The compressed file, for messages.
        packed: Its size in bytes.
        most: Maximum bytes, unless the environment sets them; by default, a multiple of the size.
    """

    def __init__(self, path: Path, packed: int, *, most: int | None = None) -> None:
        self._path = path
        self._most = unpacked_limit(packed, most=most)
        self._count = 0

    def add(self, count: int) -> None:
        """Counts bytes.

        Raises:
            DataError: If there are more than the limit.
        """
        self._count += count
        if self._count > self._most:
            raise DataError(
                f"{self._path} unpacks to more than {_size(self._most)}, as files do that are made to exhaust a "
                f"machine; if you expect its size, unpack it yourself or set {UNPACKED} to a limit such as 20GiB."
            )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 1 << 30 else f"{count / 2**20:.0f} MiB"
