"""Labels that are probably variants of the same label."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict

from keras_peft.data.check.report import Checked, Finding, counted
from keras_peft.data.check.subject import Subject


def check(subject: Subject) -> Checked:
    """Finds labels that differ only in case, spaces, hyphens, Unicode form or a plural."""
    rows = subject.rows
    if not rows.has_classes:
        return Checked("spelling")
    counts = Counter(label for one in rows.written for label in one if label.strip())
    alike: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        alike[_key(label)].append(label)
    groups = [sorted(group, key=lambda one: -counts[one]) for group in alike.values() if len(group) > 1]
    if not groups:
        return Checked("spelling")
    in_case = any(len({label.strip().casefold() for label in group}) < len(group) for group in groups)
    odd = {label for group in groups for label in group[1:]}
    finding = Finding(
        counted(len(groups), "label has several spellings", "labels have several spellings"),
        "Use one spelling for each, unless they mean different things."
        + (" `merge_labels='case'` reads those that differ only in case as one." if in_case else ""),
        tuple(n for n, one in enumerate(rows.written, 1) if not odd.isdisjoint(one)),
        tuple(", ".join(f"{label!r} ({counts[label]:,})" for label in group) for group in groups[:6]),
    )
    return Checked("spelling", (finding,), {"alike": groups})


def _key(label: str) -> str:
    # Only longer words: "as" is not the plural of "a", nor NNPS that of NNP.
    words = re.sub(r"(?<=[^\W\d_][a-z]{2})s\b", "", unicodedata.normalize("NFKC", label))
    # A sign at an end has a meaning: -1, A-, C++.
    return re.sub(r"(?<=\w)[\s_\-]+(?=\w)", " ", words.casefold()).strip() or label
