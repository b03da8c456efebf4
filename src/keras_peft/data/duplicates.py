"""Texts that are there already, word for word or nearly so."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from keras_peft.store import pack

if TYPE_CHECKING:
    import numpy as np

# Rows that are compared with all others at once.
_BLOCK = 2048
MOST_COMPARED = 100_000
"""Of more texts so many, drawn by chance, are compared for whether they are nearly the same."""


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

        if self._grams is None:
            self._grams = _vectorizer("l2")
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
        return plain(self._names.sub(" ", text))


def plain(text: str) -> str:
    """Returns the words of a text without case and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def digests(values: Iterable[Any]) -> np.ndarray:
    """Returns a digest of 16 bytes for each text or label, or for each tuple of them, (values,) S16.

    Equal values have equal digests, so that what repeats is found without holding it.
    """
    import numpy as np

    return np.fromiter((hashlib.blake2b(pack(one), digest_size=16).digest() for one in values), "S16")


def equal_groups(values: Iterable[Any]) -> list[np.ndarray]:
    """Returns the positions of values that are there more than once, group by group, in their order."""
    import numpy as np

    found = digests(values)
    order = np.argsort(found, kind="stable")
    found = found[order]
    starts = np.flatnonzero(np.append(True, found[1:] != found[:-1]))
    sizes = np.diff(np.append(starts, len(found)))
    groups = [order[starts[n] : starts[n] + sizes[n]] for n in np.flatnonzero(sizes > 1)]
    return sorted(groups, key=lambda group: int(group[0]))


def contradictions(texts: Iterable[Any], labels: Sequence[Any]) -> list[np.ndarray]:
    """Returns the positions of rows with one text and different labels, text by text, in their order."""
    return [group for group in equal_groups(texts) if len({labels[row] for row in group}) > 1]


def near_pairs(texts: Sequence[str], similarity: float, *, most_compared: int = MOST_COMPARED) -> np.ndarray:
    """Finds all pairs of texts that repeat one another, word for word or nearly so.

    Two sets of n and m parts with a cosine of at least s have s²n parts in common, so
    they share one among the (1 - s²)n + 1 rarest parts of each. Only pairs that share
    enough of those are compared in full. (Bayardo, Ma and Srikant 2007, Scaling up all
    pairs similarity search.)

    Args:
        texts: Texts. Word for word all are compared.
        similarity: From this cosine on, above 0 and up to 1.
        most_compared: Of more texts than this, so many are drawn by chance and compared nearly.

    Returns:
        The positions of both, (pairs, 2), the first below the second, sorted.

    Example:
        >>> near_pairs(["It is fast.", "It is fast!", "It was slow."], 0.8).tolist()
        [[0, 1]]
    """
    import numpy as np

    words = digests(plain(text) for text in texts)
    _, first, group = np.unique(words, return_index=True, return_inverse=True)
    places = np.arange(len(texts))
    # Texts that are equal are compared once, as the first of them, and those without a word not at all.
    earliest = np.where(words == digests([""]), -1, first[group])
    again = np.flatnonzero((earliest >= 0) & (earliest != places))
    pairs = [np.stack([earliest[again], again], axis=1)]
    if len(places) > most_compared:
        places = np.random.default_rng(0).choice(places, most_compared, replace=False)
    different = np.unique(earliest[places])
    different = different[different >= 0]
    if len(different) > 1:
        order = np.argsort(earliest, kind="stable")
        earliest = earliest[order]
        for one, other in _near([plain(texts[place]) for place in different], similarity):
            begin, end = np.searchsorted(earliest, [different[other], different[other] + 1])
            same = order[begin:end]
            pairs.append(np.sort(np.stack([np.full_like(same, different[one]), same], axis=1), axis=1))
    return np.unique(np.concatenate(pairs).astype(np.int64), axis=0)


def _near(texts: list[str], similarity: float) -> Iterator[tuple[int, int]]:
    import numpy as np
    from scipy.sparse import csr_array

    grams = csr_array(_vectorizer(None).transform(texts))
    sizes = np.diff(grams.indptr)
    frequency = np.bincount(grams.indices, minlength=grams.shape[1])
    rows = np.repeat(np.arange(len(texts)), sizes)
    by_rarity = np.lexsort((grams.indices, frequency[grams.indices], rows))
    rank = np.arange(len(rows)) - np.repeat(grams.indptr[:-1], sizes)
    heads = np.minimum(np.floor((1 - similarity**2) * sizes + 1e-9) + 1, sizes)
    kept = by_rarity[rank < np.repeat(heads, sizes)]
    rare = csr_array((np.ones(len(kept), np.int32), (rows[kept], grams.indices[kept])), shape=grams.shape)
    columns = rare.T.tocsr()
    for start in range(0, len(texts), _BLOCK):
        candidates = (rare[start : start + _BLOCK] @ columns).tocoo()
        one, other = candidates.row + start, candidates.col
        least, most = np.minimum(sizes[one], sizes[other]), np.maximum(sizes[one], sizes[other])
        # What two have in common is among the rare parts of both, or behind those of one of them.
        common = np.minimum(least, candidates.data + np.maximum((sizes - heads)[one], (sizes - heads)[other]))
        fits = (one < other) & (common >= similarity * np.sqrt(least * most) - 1e-9)
        one, other = one[fits], other[fits]
        for begin in range(0, len(one), _BLOCK):
            a, b = one[begin : begin + _BLOCK], other[begin : begin + _BLOCK]
            common = grams[a].multiply(grams[b]).sum(axis=1)
            near = common >= similarity * np.sqrt(sizes[a] * sizes[b]) - 1e-9
            yield from zip(a[near].tolist(), b[near].tolist(), strict=True)


def _vectorizer(norm: str | None) -> Any:
    """Sequences of four characters; hashing needs no vocabulary, so that texts may come one after the other."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(4, 4),
        n_features=2**20,
        binary=True,
        alternate_sign=False,
        norm=norm,
        dtype="float32",
    )
