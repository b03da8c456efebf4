"""Quality checks of labelled text before training, one module per check.

A check is a module with `check(subject)`, which returns its findings and statistics. Every finding
recommends a next step.
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
    """Runs every check on labelled text.

    Args:
        subject: The rows to check, and the data that they are checked with.

    Returns:
        The findings and statistics of all checks.
    """
    return DataReport(
        source=subject.rows.source,
        rows=len(subject.rows.texts),
        text_form=subject.rows.text_form,
        label_form=subject.rows.label_form,
        checks=tuple(module.check(subject) for module in _CHECKS),
    )
