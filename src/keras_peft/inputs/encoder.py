"""Rows to token ids of a bounded length, in one pass of the Rust tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from keras_peft.errors import OptionError
from keras_peft.inputs.tokens import Tokens
from keras_peft.store import Collector, arrays

if TYPE_CHECKING:
    import tokenizers

TOKENIZER = "tokenizer.json"
# Texts that are tokenised together: enough for all cores, few enough for memory.
_AT_ONCE = 4096


class EncodedRow(NamedTuple):
    """The tokens of a row: of each of its windows, whether it was cut, and where its words begin."""

    ids: list[np.ndarray]
    is_cut: bool = False
    words: np.ndarray | None = None


class Encoder(ABC):
    """Turns rows into token ids. Each input has one of its own.

    Args:
        content: The content of a tokenizer.json; its own padding and truncation are
            not used.
        max_length: Maximum tokens of a row, special ones included.
        overlaps: Whether what is longer is read in windows, which overlap by a quarter. The
            rest is cut off otherwise.
        at_once: Rows that are tokenised together.

    Attributes:
        content: The same.
        max_length: The same.

    Raises:
        OptionError: If `max_length` leaves no room for text.
    """

    reads_words: ClassVar[bool]

    def __init__(
        self, content: str, max_length: int, *, overlaps: bool = False, at_once: int = _AT_ONCE
    ) -> None:
        import tokenizers

        self.content, self.max_length = content, max_length
        self._tokenizer = tokenizers.Tokenizer.from_str(content)
        special = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise OptionError(
                f"`max_length={max_length}` leaves no room for text beside {special} special tokens; expected at "
                f"least {special + 1}."
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length, stride=(max_length - special) // 4 if overlaps else 0)
        self._overlaps, self._at_once = overlaps, at_once

    def __call__(self, rows: Sequence[Any]) -> Tokens:
        """Encodes rows, in their order.

        Args:
            rows: From the input's `read` or `read_given`.
        """
        ids, words = Collector(arrays(np.int32)), Collector(arrays(np.int64))
        windows: list[int] = []
        truncated = 0
        for start in range(0, len(rows), self._at_once):
            # The tokenizer's own objects are large, so there are never those of all rows.
            for row in self._encode(list(rows[start : start + self._at_once])):
                for one in row.ids:
                    ids.add(one)
                if row.words is not None:
                    words.add(row.words)
                windows.append(len(row.ids))
                truncated += row.is_cut
        return Tokens(
            ids=ids.done(),
            truncated=truncated,
            words=words.done() if self.reads_words else None,
            owners=np.repeat(np.arange(len(windows)), windows) if self._overlaps else None,
        )

    @abstractmethod
    def seen(self, row: Any) -> tuple[str, ...]:
        """Returns the strings of a row as far as their tokens are not cut off."""

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """Returns what a bundle says of it beside its files, as plain values."""

    def files(self) -> dict[str, str]:
        """Returns the files that a bundle holds for it, by their names."""
        return {TOKENIZER: self.content}

    def ids(self, text: str) -> list[int]:
        """Returns the token ids of a text alone, without special tokens and uncut."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [number for part in [encoding, *encoding.overflowing] for number in part.ids]

    @abstractmethod
    def _encode(self, rows: list[Any]) -> list[EncodedRow]:
        """Tokenises some rows together."""


def ids_of(encoding: tokenizers.Encoding) -> np.ndarray:
    """Returns the ids of the tokenizer's own object as an array."""
    return np.array(encoding.ids, np.int32)
