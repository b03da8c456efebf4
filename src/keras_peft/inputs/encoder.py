"""Encoders: rows to token ids of limited length, in one pass of the Rust tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from keras_peft.errors import DataError, OptionError
from keras_peft.inputs.tokenizer import guarded, make
from keras_peft.inputs.tokens import Tokens
from keras_peft.store import Collector, arrays

if TYPE_CHECKING:
    import tokenizers

TOKENIZER = "tokenizer.json"
# Rows per batch of the tokenizer: enough for all cores, few enough for memory.
_AT_ONCE = 4096
# Characters per batch. The tokenizer needs some 200 bytes for each.
_CHARACTERS_AT_ONCE = 2_000_000
# Characters that any text may have after normalization; a longer result may be at most 20 times as long as its text.
# One character becomes up to 18 in the normal forms of Unicode.
_ALWAYS_ALLOWED = 500_000
_MOST_GROWTH = 20
# Characters that are normalized at once to measure the growth of a text.
_MEASURED = 1000


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
        OptionError: If `max_length` leaves no room for text.
        TokenizerError: If the content is not allowed; the message lists all faults.
    """

    reads_words: ClassVar[bool]

    def __init__(
        self, content: str, max_length: int, *, overlaps: bool = False, at_once: int = _AT_ONCE
    ) -> None:
        self.content, self.max_length = content, max_length
        self._tokenizer, self._known = make(content)
        special = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise OptionError(
                f"`max_length={max_length}` leaves no room for text after {special} special tokens; expected at "
                f"least {special + 1}."
            )
        self._stride = (max_length - special) // 4 if overlaps else 0
        self._tokenizer.enable_truncation(max_length, stride=self._stride)
        self._overlaps, self._at_once = overlaps, at_once
        # Texts up to this size are allowed however much they grow.
        self._unmeasured = _ALWAYS_ALLOWED // self._known.growth

    @property
    def effort(self) -> int:
        """How many times as long a text takes as with the tokenizers of most base models, at most; at least 1."""
        return self._known.effort

    def refuse_foreign_ids(self, vocabulary: int | None) -> None:
        """Refuses token ids that a base model does not have.

        Args:
            vocabulary: Number of tokens of the base model; None if it is not known.

        Raises:
            TokenizerError: If there are such ids.
        """
        self._known.refuse_foreign_ids(vocabulary)

    def __call__(self, rows: Sequence[Any]) -> Tokens:
        """Encodes rows.

        Args:
            rows: Rows from the input's `read` or `read_given`.

        Returns:
            The tokens of the rows, in the order of the rows.

        Raises:
            DataError: If the tokenizer makes a text far too long.
            TokenizerError: If it fails on a text.
        """
        ids, words = Collector(arrays(np.int32)), Collector(arrays(np.int64))
        windows: list[int] = []
        truncated = 0
        for batch in self._batches(rows):
            # The tokenizer's own objects are large, so only those of one batch exist at a time.
            for row in guarded(partial(self._encode, batch)):
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
        return guarded(lambda: self._whole(text)[0])

    def _batches(self, rows: Sequence[Any]) -> Iterator[list[Any]]:
        """Yields the rows in batches that fit into memory."""
        batch: list[Any] = []
        characters = 0
        for row in rows:
            size = len(row) if isinstance(row, str) else sum(map(len, row))
            if size > self._unmeasured:
                self._check_growth(row)
            characters += size
            if batch and (len(batch) == self._at_once or characters > _CHARACTERS_AT_ONCE):
                yield batch
                batch, characters = [], size
            batch.append(row)
        if batch:
            yield batch

    def _check_growth(self, row: Any) -> None:
        """Refuses a row that its normalization makes far too long, without normalizing all of it.

        Raises:
            DataError: If it does.
        """
        size = len(row) if isinstance(row, str) else sum(map(len, row))
        if size > self._unmeasured:
            guarded(partial(self._measure, row, size))

    def _measure(self, row: Any, size: int) -> None:
        normalizer, most = self._tokenizer.normalizer, max(_ALWAYS_ALLOWED, _MOST_GROWTH * size)
        found = 0
        for text in (row,) if isinstance(row, str) else row:
            for start in range(0, len(text) if normalizer is not None else 0, _MEASURED):
                found += len(normalizer.normalize_str(text[start : start + _MEASURED]))
                if found > most:
                    raise DataError(
                        f"The normalizer of the tokenizer makes a text of {size:,} characters more than {_MOST_GROWTH} "
                        "times as long; shorten the text, or use the tokenizer.json of the base model."
                    )

    def _whole(self, text: str) -> tuple[list[int], list[int]]:
        """Returns the ids of all tokens of a text and where each ends, without special tokens and truncation."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ends = [end for _, end in encoding.offsets]
        for part in encoding.overflowing:
            ends += [end for _, end in part.offsets[self._stride :]]
        return self._ids(encoding), ends

    def _ids(self, encoding: tokenizers.Encoding) -> list[int]:
        """Returns the ids of all tokens of an encoding and of the windows that follow it."""
        ids: list[int] = encoding.ids
        for part in encoding.overflowing:
            ids += part.ids[self._stride :]
        return ids

    def _added(self, texts: int) -> int:
        """Returns the number of special tokens around one text, or around two that are read together.

        Raises:
            OptionError: If they are more than the maximum tokens of a row.
        """
        special = int(self._tokenizer.num_special_tokens_to_add(texts > 1))
        if special > self.max_length:
            raise OptionError(
                f"`max_length={self.max_length}` leaves no room for a pair, which has {special} special tokens; "
                f"expected at least {special + 2}."
            )
        return special

    @abstractmethod
    def _encode(self, rows: list[Any]) -> list[EncodedRow]:
        """Tokenises a batch of rows."""


def ids_of(encoding: tokenizers.Encoding) -> np.ndarray:
    """Converts the ids of an encoding to an int32 array (tokens,)."""
    return np.array(encoding.ids, np.int32)
