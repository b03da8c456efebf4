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
from keras_peft.data.check.subject import NO_TOKENIZER, Subject, rows_of_examples
from keras_peft.data.examples import Examples

__all__ = ["Checked", "DataReport", "Finding", "advise", "check"]

_CHECKS = (oddities, repeats, contradictions, leakage, labels, spelling, lengths, scripts, doubts)


def advise(examples: Examples) -> tuple[str, ...]:
    """Lists problems with the labels that could harm training: rare ones, a very frequent one, and variants of one.

    Args:
        examples: The training examples.

    Returns:
        A sentence for each finding.
    """
    subject = Subject(rows_of_examples(examples), NO_TOKENIZER)
    findings = [finding for module in (labels, spelling) for finding in module.check(subject).findings]
    said = []
    for finding in findings:
        title = finding.title[0].upper() + finding.title[1:]
        samples = f" ({'; '.join(finding.samples)})" if finding.samples else ""
        said.append(f"{title}{samples}. {finding.advice}")
    return tuple(said)


def check(subject: Subject) -> DataReport:
    """Runs every check on labelled text.

    Args:
        subject: The rows to check, and the data that they are checked with.

    Returns:
        The findings and statistics of all checks.
    """
    return DataReport(
        source=subject.rows.source,
        reading=subject.rows.reading,
        rows=len(subject.rows.texts) - len(subject.rows.absent),
        text_form=subject.rows.text_form,
        label_form=subject.rows.label_form,
        checks=tuple(module.check(subject) for module in _CHECKS),
    )
