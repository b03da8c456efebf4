"""Texts that are there already, word for word or nearly so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


class Duplicates:
    """Remembers texts and tells which others repeat them.

    Two texts are compared by the cosine of their sequences of four characters, without
    the speakers' names, case and punctuation.

    Args:
        speakers: The names that open what somebody says.
        similarity: Two texts are near duplicates from this cosine on.
    """

    def __init__(self, speakers: Sequence[str], similarity: float) -> None:
        self._similarity = similarity
        self._names = re.compile("|".join(rf"(?:(?<=\s)|^){re.escape(s)}:" for s in speakers) or r"(?!)")
        self._seen: set[str] = set()
        self._grams: Any = None
        self._vectors: Any = None

    def add(self, texts: Sequence[str]) -> list[str | None]:
        """Compares texts with all that were added and with one another, and remembers the new ones.

        Returns:
            For each text None where it is new, else the reason why it is not.
        """
        if not texts:
            return []
        from scipy.sparse import vstack
        from sklearn.feature_extraction.text import HashingVectorizer

        if self._grams is None:
            # Hashing needs no vocabulary, so that texts may come one after the other.
            self._grams = HashingVectorizer(
                analyzer="char_wb", ngram_range=(4, 4), n_features=2**20, binary=True, alternate_sign=False
            )
        plain = [self._plain(text) for text in texts]
        vectors = self._grams.transform(plain)
        within = (vectors @ vectors.T).toarray()
        earlier = [0.0] * len(texts)
        if self._vectors is not None:
            earlier = (vectors @ self._vectors.T).max(axis=1).toarray().ravel().tolist()
        new: list[int] = []
        reasons: list[str | None] = []
        for position, text in enumerate(plain):
            nearest = max([earlier[position], *(within[position, other] for other in new)])
            if text in self._seen:
                reasons.append("duplicate")
            elif nearest >= self._similarity:
                reasons.append("near duplicate")
            else:
                self._seen.add(text)
                new.append(position)
                reasons.append(None)
        if new:
            added = vectors[new]
            self._vectors = added if self._vectors is None else vstack([self._vectors, added], format="csr")
        return reasons

    def _plain(self, text: str) -> str:
        return " ".join(re.findall(r"\w+", self._names.sub(" ", text).casefold()))
