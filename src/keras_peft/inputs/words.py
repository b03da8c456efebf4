"""Rows of words, each with a label of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from keras_peft.errors import OptionError
from keras_peft.inputs.case_marks import CaseMarks
from keras_peft.inputs.cells import decode, text_of
from keras_peft.inputs.encoder import EncodedRow, Encoder, ids_of
from keras_peft.inputs.input import Input
from keras_peft.inputs.limits import LONG_TEXT

if TYPE_CHECKING:
    import tokenizers

# Splits a text into runs of letters and digits, and single punctuation marks.
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class WordInput(Input):
    """The words of a sentence: a list of words, or a text, which is split at spaces and punctuation.

    Args:
        columns: Name of the column with the words.

    Example:
        >>> WordInput().read(["The train, again."])
        ('The', 'train', ',', 'again', '.')
    """

    name: ClassVar[str] = "words"

    columns: tuple[str, ...] = ("tokens",)

    @property
    def described(self) -> str:
        return "texts or lists of words"

    def read(self, cells: Sequence[Any]) -> tuple[str, ...]:
        words = listed_strings(cells[0], _WORD.findall)
        return tuple(words) if words and all(word.strip() for word in words) else ()

    def encoder(
        self,
        tokenizer: str,
        max_length: int,
        *,
        long_text: str = LONG_TEXT[0],
        marks_case: bool = True,
    ) -> WordEncoder:
        """Creates the encoder that converts words to token ids.

        Args:
            tokenizer: Content of the base model's tokenizer.json.
            max_length: Maximum tokens per row, including special tokens.
            long_text: Handling of longer rows; only `"cut"` is supported.
            marks_case: Whether words with capitals are preceded by marks, if the tokenizer lowercases
                its input.

        Returns:
            The encoder.

        Raises:
            OptionError: If `max_length` leaves no room for text, or `long_text` is not supported.
        """
        self.check(long_text)
        return WordEncoder(tokenizer, max_length, marks_case=marks_case)

    def encoder_from(self, tokenizer: str, config: Mapping[str, Any]) -> WordEncoder:
        # Bundles from before case marks existed have no such entry.
        return self.encoder(tokenizer, config["max_length"], marks_case=config.get("marks_case", False))

    def check(self, long_text: str) -> None:
        if long_text != LONG_TEXT[0]:
            raise OptionError(
                f"Lists of words cannot be read in windows; remove `long_text={long_text!r}`, or use shorter texts."
            )

    def _cells(self, given: Any) -> list[Any] | None:
        is_list = isinstance(given, list | tuple)
        return [given] if not is_list or all(isinstance(word, str) for word in given) else None


class WordEncoder(Encoder):
    """Converts lists of words to token ids, and records each word's first token.

    Args:
        content: Content of a tokenizer.json.
        max_length: Maximum tokens per row, including special tokens.
        marks_case: Whether words with capitals are preceded by marks, if the tokenizer lowercases its
            input; see `CaseMarks`.

    Attributes:
        marks_case: Whether words with capitals are preceded by marks.

    Raises:
        OptionError: If `max_length` leaves no room for text.
    """

    reads_words: ClassVar[bool] = True

    def __init__(self, content: str, max_length: int, *, marks_case: bool = False, **kwargs: Any) -> None:
        from tokenizers.pre_tokenizers import ByteLevel

        super().__init__(content, max_length, **kwargs)
        self._marks = CaseMarks.of(self._tokenizer) if marks_case else None
        self.marks_case = self._marks is not None
        before = self._tokenizer.pre_tokenizer
        # A byte-level tokenizer treats a word without a leading space as the start of a text.
        self._spaces_words = isinstance(before, ByteLevel) and not before.add_prefix_space

    def seen(self, row: Sequence[str]) -> tuple[str, ...]:
        (places,) = self([row]).words or ()
        return tuple(word for word, place in zip(row, places, strict=True) if place >= 0)

    def to_config(self) -> dict[str, Any]:
        return {
            "max_length": self.max_length,
            "long_text": LONG_TEXT[0],
            "marks_case": self.marks_case,
        }

    def _encode(self, rows: list[Sequence[str]]) -> list[EncodedRow]:
        spaced = [[f" {word}" for word in row] for row in rows] if self._spaces_words else rows
        encoded = []
        for one, words in zip(self._tokenizer.encode_batch(spaced, is_pretokenized=True), rows, strict=True):
            ids, places, is_cut = ids_of(one), _first_tokens(one, len(words)), bool(one.overflowing)
            if self._marks is not None:
                ids, places, is_longer = self._marks.insert(ids, places, words, most=self.max_length)
                is_cut = is_cut or is_longer
            encoded.append(EncodedRow([ids], is_cut, places))
        return encoded


def listed_strings(value: Any, split: Callable[[str], list[str]]) -> list[str]:
    """Reads a list of strings and numbers, a string that encodes such a list, or a string to split.

    Args:
        value: A table cell.
        split: Function that splits a string.

    Returns:
        The strings; empty if the value is none of these.
    """
    if isinstance(value, str):
        decoded = decode(value)
        value = decoded if isinstance(decoded, list) else split(value)
    if not isinstance(value, list | tuple):
        return []
    words = [one if isinstance(one, str) else text_of(one) for one in value]
    return words if all(words) else []


def _first_tokens(encoding: tokenizers.Encoding, words: int) -> np.ndarray:
    places = np.full(words, -1, np.int64)
    for place, word in reversed(list(enumerate(encoding.word_ids))):
        if word is not None:
            places[word] = place
    return places
