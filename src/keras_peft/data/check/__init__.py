"""What is odd about labelled text, before it is trained on: one file, one check.

A check is a module with `check(subject)`, from the rows to what was found and what was
counted. Every finding says what to do next.
"""

from __future__ import annotations

from pathlib import Path

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
from keras_peft.data.check.subject import SIMILARITY, read_subject
from keras_peft.extras import need

__all__ = ["Checked", "DataReport", "Finding", "check_data"]

_CHECKS = (oddities, repeats, contradictions, leakage, labels, spelling, lengths, scripts, doubts)


def check_data(
    data: str | Path,
    *,
    validation: str | Path | None = None,
    base: str | None = None,
    bundle: str | Path | None = None,
    text_column: str = "text",
    label_column: str = "label",
    similarity: float = SIMILARITY,
) -> DataReport:
    """Looks through labelled text for what would harm a training.

    Beside a text column there may be pairs (`text_a`, `text_b`) or `tokens`; beside a
    label column `labels` (a list) or `tags` (one for each token). Labels that are
    numbers with a fraction, or many, are taken as values to predict.

    Args:
        data: A file or folder of any format that `read_rows` reads.
        validation: Another; texts that are in both are found.
        base: The base whose tokenizer counts tokens; the default base where None.
        bundle: A bundle trained on such data; the rows whose label it doubts most are
            listed.
        text_column: Name of the column with the texts.
        label_column: Name of the column with the labels.
        similarity: Texts from this likeness on, up to 1, are near duplicates.

    Returns:
        The findings and the counts.

    Raises:
        DataError: If a file cannot be read or has no texts or labels.
        OptionError: If a value cannot be used.
        BaseError: If the base cannot be had.
        BundleError: If there is no sound bundle.

    Example:
        >>> report = check_data("conversations.jsonl")
        >>> report.findings
        ()
        >>> report.facts("lengths")["longest"]
        92
    """
    need("Checking labelled text", "platformdirs", "scipy", "sklearn", "tokenizers")
    subject = read_subject(
        Path(data),
        validation=Path(validation) if validation else None,
        base=base,
        bundle=bundle or None,
        text_column=text_column,
        label_column=label_column,
        similarity=similarity,
    )
    return DataReport(
        source=str(data),
        rows=len(subject.rows.texts),
        text_form=subject.rows.text_form,
        label_form=subject.rows.label_form,
        checks=tuple(module.check(subject) for module in _CHECKS),
    )
