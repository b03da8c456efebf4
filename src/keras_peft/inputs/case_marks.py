"""Case marks for uncased base models: a token before each word that contains capitals.

When each word is tagged, capitals distinguish names from nouns. A tokenizer that lowercases its input
has unused tokens, which can be trained as marks. This is inline casing, compared with other methods in
Etchegoyhen and Gete 2020, "To Case or not to case: Evaluating Casing Methods for Neural Machine
Translation", LREC 2020, pages 3752–3760.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tokenizers

# For an initial capital, for all capitals, and for any other capitals.
_MARKS = ("[unused1]", "[unused2]", "[unused3]")


class CaseMarks:
    """Inserts marks before words with capitals.

    Args:
        marks: Token ids of the marks for an initial capital, all capitals, and any other capitals.
    """

    def __init__(self, marks: tuple[int, int, int]) -> None:
        self._marks = marks

    @classmethod
    def of(cls, tokenizer: tokenizers.Tokenizer) -> CaseMarks | None:
        """Creates the marks of a tokenizer; None if it is case-sensitive or has no unused tokens."""
        normalizer = tokenizer.normalizer
        marks = [number for name in _MARKS if (number := tokenizer.token_to_id(name)) is not None]
        if normalizer is None or normalizer.normalize_str("A") != "a" or len(marks) < len(_MARKS):
            return None
        capital, throughout, others = marks
        return cls((capital, throughout, others))

    @property
    def ids(self) -> tuple[int, int, int]:
        """Token ids of the marks for an initial capital, all capitals, and any other capitals."""
        return self._marks

    def mark(self, word: str) -> int | None:
        """Returns the token id of a word's mark; None if the word has no capitals."""
        if word.lower() == word:
            return None
        capital, throughout, others = self._marks
        if len(word) > 1 and word.upper() == word:
            return throughout
        return capital if word[1:].lower() == word[1:] else others

    def insert(
        self, ids: np.ndarray, places: np.ndarray, words: Sequence[str], *, most: int
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Inserts the marks before the first tokens of their words.

        Args:
            ids: Token ids of the row, (tokens,); the last one ends the row.
            places: Position of each word's first token, (words,); -1 if it has none.
            words: The words of the row.
            most: Maximum tokens of the row; tokens before the last one are cut off if there are more.

        Returns:
            The token ids and positions with the marks, and whether any token was cut off.
        """
        marks = {
            int(place): mark
            for place, word in zip(places, words, strict=True)
            if place >= 0 and (mark := self.mark(word)) is not None
        }
        marked: list[int] = []
        moved = np.full(len(ids) + 1, -1, np.int64)  # The last entry is for words without a token.
        for place, number in enumerate(ids):
            if place in marks:
                marked.append(marks[place])
            moved[place] = len(marked)
            marked.append(int(number))
        is_cut = len(marked) > most
        if is_cut:
            moved[moved >= most - 1] = -1
            marked = [*marked[: most - 1], marked[-1]]
        return np.array(marked, np.int32), moved[places], is_cut
