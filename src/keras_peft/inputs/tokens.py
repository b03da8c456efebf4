"""Texts to token ids, in one pass of the Rust tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from keras_peft.errors import OptionError
from keras_peft.inputs.case_marks import CaseMarks
from keras_peft.store import Collector, arrays
from keras_peft.tasks import Text

if TYPE_CHECKING:
    import keras

# Texts that are tokenised together: enough for all cores, few enough for memory.
_AT_ONCE = 4096
# What a backend that compiles for each shape has to compile for.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class Tokens:
    """The token ids of some texts.

    Attributes:
        ids: For each text an int32 array of its ids, special tokens included. A tuple, or
            where they are many a view on a file.
        truncated: How many texts were cut.
        words: Where the texts came in words, the position of each word's first token,
            -1 for one that was cut off or has none: int64 arrays.
        owners: Where long texts are read in windows, which text each row is of, (rows,)
            int64, in the order of the texts.
    """

    ids: Sequence[np.ndarray]
    truncated: int
    words: Sequence[np.ndarray] | None = None
    owners: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text, (rows,) int64."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    @property
    def signature(self) -> dict[str, keras.KerasTensor]:
        """What a batch is, with None for the axes that vary."""
        import keras

        return {name: keras.KerasTensor((None, None), "int32") for name in ("token_ids", "padding_mask")}

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Pads some rows to a common length.

        Returns:
            `token_ids` and `padding_mask`, both (batch, length) int32.
        """
        shape = (len(rows), padded_length(int(self.lengths[rows].max())))
        token_ids, padding_mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for position, row in enumerate(rows):
            token_ids[position, : self.lengths[row]] = self.ids[row]
            padding_mask[position, : self.lengths[row]] = 1
        return {"token_ids": token_ids, "padding_mask": padding_mask}


class Tokenizer:
    """Turns texts into token ids of a bounded length.

    Args:
        content: The content of a tokenizer.json; its own padding and truncation are
            not used.
        max_length: Most tokens of a text, special ones included.
        windows: Read what is longer in several windows, which overlap by a quarter. The
            rest is cut off otherwise.
        marks_case: Where texts come in words, put marks before those with capitals, if the
            tokenizer makes all letters small; see `CaseMarks`.

    Attributes:
        max_length: The same.
        marks_case: Whether it does so.

    Raises:
        OptionError: If `max_length` leaves no room for text.
    """

    def __init__(
        self, content: str, max_length: int, *, windows: bool = False, marks_case: bool = False
    ) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_str(content)
        special = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise OptionError(
                f"--max-length {max_length} leaves no room for text beside {special} special tokens; expected at least "
                f"{special + 1}."
            )
        self._tokenizer.no_padding()
        overlap = (max_length - special) // 4 if windows else 0
        self._tokenizer.enable_truncation(max_length, stride=overlap)
        self._windows = windows
        self._marks = CaseMarks.of(self._tokenizer) if marks_case else None
        before = self._tokenizer.pre_tokenizer
        # Bytes of a word alone mean that it stands at a text's very start, and with a space before it anywhere else.
        self._spaces_words = isinstance(before, ByteLevel) and not before.add_prefix_space
        self.max_length = max_length
        self.marks_case = self._marks is not None

    def __call__(self, texts: Sequence[Text], *, words: bool = False) -> Tokens:
        """Tokenises texts, in their order.

        Args:
            texts: Texts, or pairs of texts, or lists of words.
            words: Whether they are lists of words.
        """
        ids, places = Collector(arrays(np.int32)), Collector(arrays(np.int64))
        windows: list[int] = []
        truncated = 0
        for start in range(0, len(texts), _AT_ONCE):
            for row in self._encoded(list(texts[start : start + _AT_ONCE]), words=words):
                for one in row.ids:
                    ids.add(one)
                if row.places is not None:
                    places.add(row.places)
                windows.append(len(row.ids))
                truncated += row.is_cut
        return Tokens(
            ids=ids.done(),
            truncated=truncated,
            words=places.done() if words else None,
            owners=np.repeat(np.arange(len(windows)), windows) if self._windows else None,
        )

    def _encoded(self, texts: list[Text], *, words: bool) -> list[_Row]:
        """Tokenises so many texts as the tokenizer's own objects, which are large, may lie in memory for."""
        encode = self._tokenizer.encode_batch if words else self._tokenizer.encode_batch_fast
        spaced = [[f" {word}" for word in text] for text in texts] if words and self._spaces_words else texts
        encodings = encode(spaced, is_pretokenized=words)
        if self._windows:
            return [_Row([_ids(part) for part in (one, *one.overflowing)]) for one in encodings]
        if not words:
            return [_Row([_ids(one)], is_cut=bool(one.overflowing)) for one in encodings]
        rows = []
        for one, text in zip(encodings, texts, strict=True):
            ids, places, is_cut = _ids(one), _first_tokens(one, len(text)), bool(one.overflowing)
            if self._marks is not None:
                ids, places, is_longer = self._marks.insert(ids, places, text, most=self.max_length)
                is_cut = is_cut or is_longer
            rows.append(_Row([ids], is_cut, places))
        return rows

    def seen(self, text: Text) -> tuple[str, ...]:
        """Returns a text, or both of a pair, as far as its tokens are not cut off."""
        texts = (text,) if isinstance(text, str) else text
        encoding = self._tokenizer.encode_batch([text])[0]
        if self._windows or not encoding.overflowing:
            return texts
        ends = [0] * len(texts)
        for (_, end), part in zip(encoding.offsets, encoding.sequence_ids, strict=True):
            if part is not None:
                ends[part] = max(ends[part], end)
        return tuple(one[:end] for one, end in zip(texts, ends, strict=True))

    def ids(self, text: str) -> list[int]:
        """Returns the token ids of a text alone, without special tokens and uncut."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [number for part in [encoding, *encoding.overflowing] for number in part.ids]


class _Row(NamedTuple):
    """The tokens of a text: of each of its windows, whether it was cut, and where its words begin."""

    ids: list[np.ndarray]
    is_cut: bool = False
    places: np.ndarray | None = None


def _ids(encoding: tokenizers.Encoding) -> np.ndarray:
    return np.array(encoding.ids, np.int32)


def _first_tokens(encoding: tokenizers.Encoding, words: int) -> np.ndarray:
    places = np.full(words, -1, np.int64)
    for place, word in reversed(list(enumerate(encoding.word_ids))):
        if word is not None:
            places[word] = place
    return places


def padded_length(length: int) -> int:
    """Returns what rows of up to so many tokens are padded to.

    It is that many, or the shortest length of the list that is long enough where the
    backend compiles for each.
    """
    import keras

    if keras.config.backend() != "jax":
        return int(length)
    return next((known for known in LENGTHS if known >= length), int(length))
