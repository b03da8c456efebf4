"""Exact and near-duplicate texts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from keras_peft.store import pack

if TYPE_CHECKING:
    import numpy as np

# Rows compared with all others per block.
_BLOCK = 2048
MOST_COMPARED = 100_000
"""Maximum number of texts compared for near duplicates; larger sets are sampled at random."""


class Duplicates:
    """Remembers texts and detects new texts that repeat them.

    Texts are compared by the cosine similarity of their character 4-grams, ignoring speaker names,
    case and punctuation.

    Args:
        speakers: Names that introduce an utterance, as in "Jon: …".
        similarity: Cosine similarity from which two texts are near duplicates.
    """

    def __init__(self, speakers: Sequence[str], similarity: float) -> None:
        self._similarity = similarity
        self._names = re.compile("|".join(rf"(?:(?<=\s)|^){re.escape(s)}:" for s in speakers) or r"(?!)")
        self._seen: set[str] = set()
        self._grams: Any = None
        self._vectors: Any = None

    def add(self, texts: Sequence[str]) -> list[str | None]:
        """Compares texts with all earlier ones and with each other, and remembers the new ones.

        Args:
            texts: The texts to compare.

        Returns:
            One entry per text: None if it is new, otherwise "duplicate" or "near duplicate".
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
    """Returns the words of a text in lower case, without punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def digests(values: Iterable[Any]) -> np.ndarray:
    """Computes a 16-byte digest of each value.

    Equal values have equal digests, so repeated values are found without keeping them in memory.

    Args:
        values: Texts, labels, or tuples of them.

    Returns:
        The digests, (values,) S16.
    """
    import numpy as np

    return np.fromiter((hashlib.blake2b(pack(one), digest_size=16).digest() for one in values), "S16")


def equal_groups(values: Iterable[Any]) -> list[np.ndarray]:
    """Finds values that occur more than once.

    Args:
        values: Texts, labels, or tuples of them.

    Returns:
        One array of ascending positions per group of equal values, ordered by first position.
    """
    import numpy as np

    found = digests(values)
    order = np.argsort(found, kind="stable")
    found = found[order]
    starts = np.flatnonzero(np.append(True, found[1:] != found[:-1]))
    sizes = np.diff(np.append(starts, len(found)))
    groups = [order[starts[n] : starts[n] + sizes[n]] for n in np.flatnonzero(sizes > 1)]
    return sorted(groups, key=lambda group: int(group[0]))


def contradictions(texts: Iterable[Any], labels: Sequence[Any]) -> list[np.ndarray]:
    """Finds texts that occur with different labels.

    Args:
        texts: The texts.
        labels: One label per text.

    Returns:
        One array of ascending positions per such text, ordered by first position.
    """
    return [group for group in equal_groups(texts) if len({labels[row] for row in group}) > 1]


def near_pairs(texts: Sequence[str], similarity: float, *, most_compared: int = MOST_COMPARED) -> np.ndarray:
    """Finds all pairs of texts that are exact or near duplicates.

    Two sets of n and m 4-grams with a cosine similarity of at least s share at least s²n 4-grams.
    They therefore share one of the (1 - s²)n + 1 rarest 4-grams of each set. Only pairs that share
    enough of these are compared in full. (Bayardo, Ma and Srikant 2007, Scaling up all pairs
    similarity search.)

    Args:
        texts: The texts to compare. All are compared for equality, ignoring case and punctuation.
        similarity: Minimum cosine similarity of a pair, above 0 and at most 1.
        most_compared: Maximum number of texts compared for near duplicates; larger sets are sampled
            at random.

    Returns:
        Positions of both texts, (pairs, 2) int64, sorted, with the smaller position first.

    Example:
        >>> near_pairs(["It is fast.", "It is fast!", "It was slow."], 0.8).tolist()
        [[0, 1]]
    """
    import numpy as np

    words = digests(plain(text) for text in texts)
    _, first, group = np.unique(words, return_index=True, return_inverse=True)
    places = np.arange(len(texts))
    # Equal texts are compared once, by their first occurrence; texts without words are skipped.
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
        # Upper bound of the overlap: the shared rare 4-grams, plus the other 4-grams of one of the texts.
        common = np.minimum(least, candidates.data + np.maximum((sizes - heads)[one], (sizes - heads)[other]))
        fits = (one < other) & (common >= similarity * np.sqrt(least * most) - 1e-9)
        one, other = one[fits], other[fits]
        for begin in range(0, len(one), _BLOCK):
            a, b = one[begin : begin + _BLOCK], other[begin : begin + _BLOCK]
            common = grams[a].multiply(grams[b]).sum(axis=1)
            near = common >= similarity * np.sqrt(sizes[a] * sizes[b]) - 1e-9
            yield from zip(a[near].tolist(), b[near].tolist(), strict=True)


def _vectorizer(norm: str | None) -> Any:
    """Returns a vectorizer of character 4-grams; it hashes, so texts can arrive one by one."""
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
