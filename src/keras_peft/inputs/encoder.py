"""Encoders: rows to token ids of limited length, in one pass of the Rust tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from keras_peft.errors import BaseCorrupt, OptionError, reason_of
from keras_peft.inputs.tokens import Tokens
from keras_peft.store import Collector, arrays

if TYPE_CHECKING:
    import tokenizers

TOKENIZER = "tokenizer.json"
# Rows per batch of the tokenizer: enough for all cores, few enough for memory.
_AT_ONCE = 4096


class EncodedRow(NamedTuple):
    """Tokens of a row: the ids of its windows, whether it was cut, and the first token of each word."""

    ids: list[np.ndarray]
    is_cut: bool = False
    words: np.ndarray | None = None


class Encoder(ABC):
    """Converts rows to token ids. Each input type has its own encoder.

    Args:
        content: Content of a tokenizer.json. Its own padding and truncation are ignored.
        max_length: Maximum tokens per row, including special tokens.
        overlaps: Whether longer rows are read in windows that overlap by a quarter, instead of being
            cut.
        at_once: Number of rows that are tokenised together.

    Attributes:
        content: Content of the tokenizer.json.
        max_length: Maximum tokens per row, including special tokens.

    Raises:
        BaseCorrupt: If the content is not a tokenizer.
        OptionError: If `max_length` leaves no room for text.
    """

    reads_words: ClassVar[bool]

    def __init__(
        self, content: str, max_length: int, *, overlaps: bool = False, at_once: int = _AT_ONCE
    ) -> None:
        self.content, self.max_length = content, max_length
        self._tokenizer = tokenizer_from(content)
        special = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise OptionError(
                f"`max_length={max_length}` leaves no room for text after {special} special tokens; expected at "
                f"least {special + 1}."
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length, stride=(max_length - special) // 4 if overlaps else 0)
        self._overlaps, self._at_once = overlaps, at_once

    def __call__(self, rows: Sequence[Any]) -> Tokens:
        """Encodes rows.

        Args:
            rows: Rows from the input's `read` or `read_given`.

        Returns:
            The tokens of the rows, in the order of the rows.
        """
        ids, words = Collector(arrays(np.int32)), Collector(arrays(np.int64))
        windows: list[int] = []
        truncated = 0
        for start in range(0, len(rows), self._at_once):
            # The tokenizer's own objects are large, so only those of one batch exist at a time.
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
        """Returns the strings of a row up to the point where its tokens are cut off."""

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """Returns the settings that a bundle stores for the encoder, as plain values."""

    def files(self) -> dict[str, str]:
        """Returns the contents of the files that a bundle stores for the encoder, by file name."""
        return {TOKENIZER: self.content}

    def ids(self, text: str) -> list[int]:
        """Returns the token ids of a text, without special tokens and truncation."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [number for part in [encoding, *encoding.overflowing] for number in part.ids]

    @abstractmethod
    def _encode(self, rows: list[Any]) -> list[EncodedRow]:
        """Tokenises a batch of rows."""


def tokenizer_from(content: str) -> tokenizers.Tokenizer:
    """Creates a tokenizer.

    Args:
        content: Content of a tokenizer.json.

    Raises:
        BaseCorrupt: If it is not a tokenizer.
    """
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(content)
    except BaseException as error:
        # The package raises no narrower exception; where its Rust code panics, not even an `Exception`.
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise BaseCorrupt(f"tokenizer.json is not a tokenizer ({reason_of(error)}); copy it again.") from None


def ids_of(encoding: tokenizers.Encoding) -> np.ndarray:
    """Converts the ids of an encoding to an int32 array (tokens,).

    Raises:
        BaseCorrupt: If the tokenizer numbers a token beyond 31 bits.
    """
    try:
        return np.array(encoding.ids, np.int32)
    except OverflowError:
        raise BaseCorrupt("tokenizer.json has numbers of tokens beyond 31 bits; copy it again.") from None
