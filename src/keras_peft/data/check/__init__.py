"""What is odd about labelled text, before it is trained on: one file, one check.

A check is a module with `check(subject)`, from the rows to what was found and what was
counted. Every finding says what to do next.
"""

from __future__ import annotations

from keras_peft.data.check import (
    contradictions,
    doubts,
    labels,
    leakage,
    lengths,
    oddities,
    repeats,
    scripts,
    spelling,
)
from keras_peft.data.check.report import Checked, DataReport, Finding
from keras_peft.data.check.subject import Subject

__all__ = ["Checked", "DataReport", "Finding", "check"]

_CHECKS = (oddities, repeats, contradictions, leakage, labels, spelling, lengths, scripts, doubts)


def check(subject: Subject) -> DataReport:
    """Looks through labelled text with every check.

    Args:
        subject: The rows, and what they are checked with.
    """
    return DataReport(
        source=subject.rows.source,
        rows=len(subject.rows.texts),
        text_form=subject.rows.text_form,
        label_form=subject.rows.label_form,
        checks=tuple(module.check(subject) for module in _CHECKS),
    )
