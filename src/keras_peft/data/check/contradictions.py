"""Texts with different labels."""

from __future__ import annotations

from keras_peft.data.check.report import Checked, Finding, counted, shortened
from keras_peft.data.check.subject import Subject
from keras_peft.data.duplicates import contradictions
from keras_peft.store import pick


def check(subject: Subject) -> Checked:
    """Finds identical texts with different labels, and near duplicates with different labels."""
    import numpy as np

    rows = subject.rows
    sound = [bool(text and labels) for text, labels in zip(rows.texts, rows.labels, strict=True)]
    places = np.flatnonzero(sound)
    torn = [
        places[group].tolist()
        for group in contradictions(pick(rows.texts, places), pick(rows.labels, places))
    ]
    findings = []
    if torn:
        findings.append(
            Finding(
                counted(len(torn), "text has contradictory labels", "texts have contradictory labels"),
                "Choose one label for each, or explain the difference in the labelling guidelines.",
                tuple(place + 1 for group in torn for place in group),
                tuple(
                    f"{shortened(rows.texts[group[0]])}\n  "
                    + ", ".join(f"row {place + 1}: {' '.join(rows.labels[place])}" for place in group[:4])
                    for group in torn[:3]
                ),
            )
        )
    # Numbers of similar texts may differ a little, and tags belong to different tokens.
    near = [
        (one, other)
        for one, other in subject.pairs.tolist()
        if other < len(rows.texts)
        and rows.label_form in ("label", "labels")
        and rows.texts[one] != rows.texts[other]
        and rows.labels[one]
        and rows.labels[other]
        and rows.labels[one] != rows.labels[other]
    ]
    if near:
        findings.append(
            Finding(
                counted(
                    len(near),
                    "pair of near duplicates has different labels",
                    "pairs of near duplicates have different labels",
                ),
                "Review them: either the small difference matters, or one label is wrong.",
                tuple(sorted({place + 1 for pair in near for place in pair})),
                tuple(
                    "\n".join(
                        f"row {place + 1}: {shortened(rows.texts[place])} ({', '.join(rows.labels[place])})"
                        for place in pair
                    )
                    for pair in near[:3]
                ),
            )
        )
    return Checked("contradictions", tuple(findings))
