"""Sentences of which a file contains one token per line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keras_peft.data import names
from keras_peft.data.readers._limits import MOST_TOKENS
from keras_peft.data.readers._table import Row
from keras_peft.errors import DataError

_DOCUMENT = "-DOCSTART-"


class LineSentences:
    """Gathers lines of tokens and tags into sentences.

    Args:
        columns: Names of the columns. The first that is known contains the tokens; the others are collected
            under their own names.
        source: Name of the file, for messages.
    """

    def __init__(self, columns: Sequence[str], source: str) -> None:
        self._columns, self._source = columns, source
        self._lines: list[Sequence[str]] = []
        found = names.find(columns, names.TOKENS)
        self._token = columns.index(found) if found else 0

    def add(self, values: Sequence[str]) -> Iterator[Row]:
        """Adds a line; an empty one ends the sentence, which is then yielded.

        Raises:
            DataError: If the sentence has too many tokens.
        """
        if not any(value.strip() for value in values) or values[self._token] == _DOCUMENT:
            yield from self.end()
        else:
            if len(self._lines) == MOST_TOKENS:
                raise DataError(
                    f"{self._source}: a sentence has more than {MOST_TOKENS:,} tokens; expected an empty line after "
                    "each sentence."
                )
            self._lines.append(values)

    def end(self) -> Iterator[Row]:
        """Yields the sentence that is left."""
        if self._lines:
            width = len(self._columns)
            padded = [[*line[:width], *[""] * (width - len(line))] for line in self._lines]
            row: Row = {
                name: list(own) for name, own in zip(self._columns, zip(*padded, strict=True), strict=True)
            }
            self._lines = []
            yield row
