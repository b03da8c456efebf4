"""Frequency of each label, or the distribution of numeric labels."""

from __future__ import annotations

from collections.abc import Sequence

from keras_peft.data.check.report import Checked, Finding, counted
from keras_peft.data.check.subject import Subject

_BINS = 10
_FEW = 10
_RATIO = 20


def check(subject: Subject) -> Checked:
    """Counts the labels and finds rare ones."""
    rows = subject.rows
    if not rows.has_classes:
        return _spread(rows.labels)
    counts = rows.counts
    findings = []
    what = "tag" if rows.label_form == "tags" else "label"
    least = min(counts.values(), default=0)
    if len(counts) < 2:
        findings.append(
            Finding(
                "there is only one label" if counts else "there are no labels",
                "A classifier needs at least two; add rows with another label.",
            )
        )
    if few := sorted(label for label, count in counts.items() if count < _FEW):
        shown = ", ".join(f"{label!r} ({counts[label]})" for label in few[:6])
        merged = "it with another" if len(few) == 1 else "them with others"
        single = ", and one that occurs once cannot be split" if least == 1 else ""
        findings.append(
            Finding(
                counted(len(few), f"{what} has", f"{what}s have") + f" fewer than {_FEW} examples",
                f"Add rows, or merge {merged}; a model learns little from so few{single}.",
                samples=(f"{shown}{' …' if len(few) > 6 else ''}",),
            )
        )
    top, most = counts.most_common(1)[0] if counts else ("", 0)
    if len(counts) > 1 and most >= _RATIO * least:
        findings.append(
            Finding(
                f"the most frequent {what} {top!r} is {most // least:,} times as frequent as the rarest",
                "Use macro-F1 rather than accuracy, and add rows with the rare ones.",
            )
        )
    total = sum(counts.values())
    table = {label: {"count": count, "share": count / total} for label, count in counts.most_common()}
    return Checked("labels", tuple(findings), {"counts": table})


def _spread(labels: Sequence[tuple[str, ...]]) -> Checked:
    import numpy as np

    values = np.fromiter((float(one[0]) for one in labels if one), np.float64)
    # Scale to the largest value, so that neither sums nor squares overflow.
    scale = float(np.abs(values).max()) or 1.0
    shares = values / scale
    heights, edges = np.histogram(shares, bins=_BINS)
    facts = {
        "least": float(values.min()),
        "most": float(values.max()),
        "mean": float(np.mean(shares)) * scale,
        "deviation": float(np.std(shares)) * scale,
        "histogram": [
            {"from": float(low) * scale, "to": float(high) * scale, "count": int(count)}
            for low, high, count in zip(edges[:-1], edges[1:], heights, strict=True)
        ],
    }
    return Checked("labels", (), facts)
