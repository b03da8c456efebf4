"""Capitals for bases that read small letters only: a mark before each word that has some.

Where every word is tagged its capitals tell a name from a noun. A tokenizer that makes all letters
small has tokens that no text uses, and these can be learned as marks: inline casing, as compared with
other ways in Etchegoyhen and Gete 2020, "To Case or not to case: Evaluating Casing Methods for Neural
Machine Translation", LREC 2020, pages 3752–3760.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tokenizers

# One for a capital at the beginning, one for capitals throughout, one for any others.
_MARKS = ("[unused1]", "[unused2]", "[unused3]")


class CaseMarks:
    """Puts marks before words with capitals.

    Args:
        marks: The ids of the tokens: a capital at the beginning, capitals throughout, others.
    """

    def __init__(self, marks: tuple[int, int, int]) -> None:
        self._marks = marks

    @classmethod
    def of(cls, tokenizer: tokenizers.Tokenizer) -> CaseMarks | None:
        """Finds the marks of a tokenizer; None where it tells capitals itself, or has no unused tokens."""
        normalizer = tokenizer.normalizer
        marks = [number for name in _MARKS if (number := tokenizer.token_to_id(name)) is not None]
        if normalizer is None or normalizer.normalize_str("A") != "a" or len(marks) < len(_MARKS):
            return None
        capital, throughout, others = marks
        return cls((capital, throughout, others))

    def mark(self, word: str) -> int | None:
        """Returns the id of a word's mark; None where it has no capitals."""
        if word.lower() == word:
            return None
        capital, throughout, others = self._marks
        if len(word) > 1 and word.upper() == word:
            return throughout
        return capital if word[1:].lower() == word[1:] else others

    def insert(
        self, ids: np.ndarray, places: np.ndarray, words: Sequence[str], *, most: int
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Puts the marks before the first tokens of their words.

        Args:
            ids: The row's tokens (tokens,), of which the last ends it.
            places: The position of each word's first token, -1 for none (words,).
            words: The words.
            most: Most tokens of the row; what is more is cut off before the last.

        Returns:
            The tokens and places with the marks, and whether any token was cut off for them.
        """
        marks = {
            int(place): mark
            for place, word in zip(places, words, strict=True)
            if place >= 0 and (mark := self.mark(word)) is not None
        }
        marked: list[int] = []
        moved = np.full(len(ids) + 1, -1, np.int64)  # The last is for words without a place.
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
