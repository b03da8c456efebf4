"""Tracks the rows of a run: wanted, requested and accepted, per label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from random import Random
from typing import Any

from keras_peft.data.duplicates import Duplicates
from keras_peft.data.synthesis.generated_rows import GeneratedRow, RowRules


class RowCollector:
    """Accepts rows that satisfy the rules, are new and are still needed.

    Args:
        quota: Number of rows wanted of each label.
        rules: Requirements for each row.
        similarity: Cosine similarity from which two texts are near duplicates.
    """

    def __init__(self, quota: Mapping[str, int], rules: RowRules, similarity: float) -> None:
        self._quota = quota
        self._rules = rules
        self._accepted: dict[str, list[GeneratedRow]] = {label: [] for label in quota}
        self._under_way: Counter[str] = Counter()
        self._duplicates = Duplicates(rules.speakers, similarity)

    def __len__(self) -> int:
        return sum(map(len, self._accepted.values()))

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels."""
        return tuple(self._quota)

    @property
    def missing(self) -> int:
        """Number of rows that are still missing."""
        return sum(self._quota.values()) - len(self)

    def accept(self, candidates: Sequence[Mapping[str, Any]]) -> tuple[list[GeneratedRow], Counter[str]]:
        """Accepts the usable rows of a response.

        Args:
            candidates: JSON objects from `candidates_in`.

        Returns:
            The accepted rows, and the number of rejected ones by reason.
        """
        checked = [self._rules.check(candidate) for candidate in candidates]
        rejected = Counter(reason for reason in checked if isinstance(reason, str))
        sound = [row for row in checked if isinstance(row, GeneratedRow)]
        taken: list[GeneratedRow] = []
        for row, reason in zip(sound, self._duplicates.add([row.text for row in sound]), strict=True):
            there = self._accepted[row.label]
            if reason is not None:
                rejected[reason] += 1
            elif len(there) == self._quota[row.label]:
                rejected["not needed"] += 1
            else:
                there.append(row)
                taken.append(row)
        return taken, rejected

    def next_share(self, batch: int) -> dict[str, int]:
        """Chooses the rows of the next request, from the labels that lack most.

        Rows that are already requested are not requested again.

        Args:
            batch: Maximum number of rows per request.

        Returns:
            Number of rows per label; empty if nothing is left to request.
        """
        open_ = {
            label: rows - len(self._accepted[label]) - self._under_way[label]
            for label, rows in self._quota.items()
        }
        share: Counter[str] = Counter()
        for _ in range(batch):
            label = max(open_, key=lambda one: open_[one])
            if open_[label] <= 0:
                break
            open_[label] -= 1
            share[label] += 1
        return dict(share)

    def ask(self, share: Mapping[str, int]) -> None:
        """Records that a request for these rows is in flight."""
        self._under_way.update(share)

    def answered(self, share: Mapping[str, int]) -> None:
        """Records that a request for these rows is no longer in flight."""
        self._under_way.subtract(share)

    def some(self, most: int, chance: Random) -> list[str]:
        """Returns a random sample of the accepted texts."""
        texts = [row.text for rows in self._accepted.values() for row in rows]
        return chance.sample(texts, min(most, len(texts)))

    def mixed(self, seed: int) -> Iterator[GeneratedRow]:
        """Yields the rows in the order of the file.

        The labels alternate in random order, so that every part of the file contains all of them. The
        order depends only on the rows and the seed, not on which response arrived first.
        """
        chance = Random(seed)
        columns = []
        for rows in self._accepted.values():
            column = sorted(rows, key=lambda row: row.text)
            chance.shuffle(column)
            columns.append(column)
        for round_ in zip_longest(*columns):
            there = [row for row in round_ if row is not None]
            chance.shuffle(there)
            yield from there
