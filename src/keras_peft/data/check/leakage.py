"""Texts that occur in both the training and the validation data."""

from __future__ import annotations

from keras_peft.data.check.report import Checked, Finding, counted, shortened
from keras_peft.data.check.subject import Subject
from keras_peft.data.duplicates import digests


def check(subject: Subject) -> Checked:
    """Finds validation rows that are exact or near duplicates of the checked rows."""
    rows, others = subject.rows, subject.validation
    if others is None:
        return Checked("leakage")
    import numpy as np

    known, first = np.unique(digests(rows.texts), return_index=True)
    wanted = digests(others.texts)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    exact = {
        place: int(first[at[place]])
        for place in np.flatnonzero(known[at] == wanted).tolist()
        if others.texts[place]
    }
    count = len(rows.texts)
    near = {
        other - count: one
        for one, other in reversed(subject.pairs.tolist())
        if one < count <= other and other - count not in exact
    }
    findings = []
    for found, kind in ((exact, "is also in"), (near, "is nearly in")):
        if found:
            plural = kind.replace("is", "are")
            title = counted(len(found), f"row of {others.source} {kind}", f"rows of {others.source} {plural}")
            findings.append(
                Finding(
                    f"{title} {rows.source}",
                    "Remove them from one side; otherwise the validation measures memorisation.",
                    tuple(place + 1 for place in sorted(found)),
                    tuple(
                        f"validation row {place + 1}, row {found[place] + 1}: {shortened(others.texts[place])}"
                        for place in sorted(found)[:3]
                    ),
                )
            )
    if rows.has_classes and others.has_classes and (new := sorted(set(others.counts) - set(rows.counts))):
        findings.append(
            Finding(
                f"{others.source} has labels that {rows.source} lacks: {', '.join(map(repr, new[:10]))}",
                "Add training rows with them, or remove them from the validation data; a model cannot learn them.",
            )
        )
    return Checked("leakage", tuple(findings), {"rows": len(exact), "near": len(near)})
