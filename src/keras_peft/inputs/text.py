"""Rows of one text, or of two texts that are read together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.errors import OptionError, did_you_mean
from keras_peft.inputs.cells import text_of
from keras_peft.inputs.encoder import EncodedRow, Encoder, ids_of
from keras_peft.inputs.input import Input, Text
from keras_peft.inputs.limits import LONG_TEXT
from keras_peft.inputs.pairs import kept_lengths, pair_windows
from keras_peft.inputs.strings import is_text
from keras_peft.inputs.tokenizer import guarded

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class TextInput(Input):
    """A text, or a pair of texts that the base model reads together.

    Args:
        columns: Name of the text column, or names of both columns of a pair.

    Example:
        >>> TextInput(("question", "answer")).read(["Who won? ", "The home team."])
        ('Who won?', 'The home team.')
    """

    name: ClassVar[str] = "text"

    columns: tuple[str, ...] = ("text",)

    @property
    def described(self) -> str:
        return "pairs of texts" if len(self.columns) > 1 else "texts"

    def read(self, cells: Sequence[Any]) -> Text:
        texts = tuple(text_of(cell) for cell in cells)
        if not all(texts):
            return ""
        return texts if len(texts) > 1 else texts[0]

    def encoder(self, tokenizer: str, max_length: int, *, long_text: str = LONG_TEXT[0]) -> TextEncoder:
        self.check(long_text)
        return TextEncoder(tokenizer, max_length, windows=long_text == LONG_TEXT[1])

    def encoder_from(self, tokenizer: str, config: Mapping[str, Any]) -> TextEncoder:
        return self.encoder(tokenizer, config["max_length"], long_text=config["long_text"])

    def check(self, long_text: str) -> None:
        if long_text not in LONG_TEXT:
            raise OptionError(
                f"`long_text={long_text!r}`: expected one of {', '.join(LONG_TEXT)}."
                f"{did_you_mean(long_text, LONG_TEXT)}"
            )

    def _cells(self, given: Any) -> list[Any] | None:
        cells = list(given) if isinstance(given, list | tuple) else [given]
        return cells if len(cells) == len(self.columns) and all(map(is_text, cells)) else None


class TextEncoder(Encoder):
    """Converts texts, or pairs of texts, to token ids.

    Args:
        content: Content of a tokenizer.json.
        max_length: Maximum tokens per row, including special tokens.
        windows: Whether longer rows are read in windows that overlap by a quarter, instead of being
            cut.

    Raises:
        OptionError: If `max_length` leaves no room for text.
    """

    reads_words: ClassVar[bool] = False

    def __init__(self, content: str, max_length: int, *, windows: bool = False, **kwargs: Any) -> None:
        super().__init__(content, max_length, overlaps=windows, **kwargs)

    def seen(self, row: Text) -> tuple[str, ...]:
        texts = (row,) if isinstance(row, str) else row
        if self._overlaps:
            return texts
        self._check_growth(row)
        ends = [guarded(partial(self._whole, text))[1] for text in texts]
        most = self.max_length - self._added(len(texts))
        lengths = (most,) if len(texts) == 1 else kept_lengths(len(ends[0]), len(ends[1]), most)
        if sum(map(len, ends)) <= most:
            return texts
        return tuple(
            one[: max(own[:length], default=0)] for one, own, length in zip(texts, ends, lengths, strict=True)
        )

    def to_config(self) -> dict[str, Any]:
        return {
            "max_length": self.max_length,
            "long_text": LONG_TEXT[self._overlaps],
            "marks_case": False,
        }

    def _encode(self, rows: list[Text]) -> list[EncodedRow]:
        pairs = [row for row in rows if not isinstance(row, str)]
        if not pairs:
            return list(map(self._of_text, self._tokenizer.encode_batch_fast(rows)))
        self._added(2)
        texts = iter(self._tokenizer.encode_batch_fast([row for row in rows if isinstance(row, str)]))
        sides = iter(
            self._tokenizer.encode_batch_fast(list(chain.from_iterable(pairs)), add_special_tokens=False)
        )
        return [
            self._of_text(next(texts)) if isinstance(row, str) else self._of_pair(next(sides), next(sides))
            for row in rows
        ]

    def _of_text(self, encoding: tokenizers.Encoding) -> EncodedRow:
        if self._overlaps:
            return EncodedRow([ids_of(part) for part in (encoding, *encoding.overflowing)])
        return EncodedRow([ids_of(encoding)], is_cut=bool(encoding.overflowing))

    def _of_pair(self, first: tokenizers.Encoding, second: tokenizers.Encoding) -> EncodedRow:
        sides = self._ids(first), self._ids(second)
        windows = pair_windows(
            *sides, self._known.pair, self.max_length, self._stride if self._overlaps else None
        )
        if self._overlaps:
            return EncodedRow(list(windows))
        return EncodedRow([next(windows)], is_cut=sum(map(len, sides)) > self.max_length - self._added(2))
