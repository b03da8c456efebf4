"""Exact and near-duplicate rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_peft.data.check.report import Checked, Finding, counted, sample
from keras_peft.data.check.subject import Subject
from keras_peft.data.duplicates import equal_groups

if TYPE_CHECKING:
    import numpy as np


def check(subject: Subject) -> Checked:
    """Finds exact duplicates, and groups of near duplicates."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = subject.rows
    same = equal_groups(zip(rows.texts, rows.labels, strict=True))
    exact = [group.tolist() for group in same if rows.texts[group[0]]]
    findings = []
    if exact:
        extra = sum(len(group) - 1 for group in exact)
        findings.append(
            Finding(
                counted(extra, "row is an exact duplicate", "rows are exact duplicates"),
                "Remove them, so that none is in both the training and the validation set; train skips them.",
                tuple(place + 1 for group in exact for place in group[1:]),
                tuple(_told(rows.texts, group) for group in sorted(exact, key=len, reverse=True)[:3]),
            )
        )
    count = len(rows.texts)
    pairs = subject.pairs
    pairs = pairs[(pairs < count).all(axis=1)]
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    components = connected_components(graph, directed=False)[1]
    groups: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero((np.bincount(components) > 1)[components]).tolist():
        groups[components[place]].append(place)
    near = [places for places in groups.values() if len({rows.texts[place] for place in places}) > 1]
    if near:
        inside = sum(map(len, near))
        findings.append(
            Finding(
                f"{inside:,} rows are near duplicates of one another, in {counted(len(near), 'group', 'groups')}",
                "Keep one of each group, or each group on one side of a split; otherwise scores are too optimistic.",
                tuple(place + 1 for group in near for place in group),
                tuple(_told(rows.texts, group, pairs) for group in sorted(near, key=len, reverse=True)[:3]),
            )
        )
    compared, every = subject.compared
    facts = {
        "exact_groups": [[place + 1 for place in group] for group in exact],
        "near_groups": [[place + 1 for place in group] for group in near],
        "similarity": subject.similarity,
        "compared": compared,
        "of": every,
    }
    return Checked("duplicates", tuple(findings), facts)


def _told(texts: Sequence[str], group: list[int], pairs: np.ndarray | None = None) -> str:
    """Describes a group: its row numbers, and its text or two of its near-duplicate texts."""
    numbers = ", ".join(str(place + 1) for place in group[:6])
    more = f" and {len(group) - 6} more" if len(group) > 6 else ""
    shown = group[:1]
    if pairs is not None:
        # The first and the last text of a long chain need not be similar.
        shown = next(
            [one, other] for one, other in pairs.tolist() if one in group and texts[one] != texts[other]
        )
    return "\n".join([f"rows {numbers}{more}", *(f"  {line}" for line in sample(texts, shown))])
