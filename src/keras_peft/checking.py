"""Check labelled text for problems, optionally with a bundle that was trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_peft import sources, tasks
from keras_peft.data.check import DataReport, check
from keras_peft.data.check.doubts import check_form
from keras_peft.data.check.subject import (
    SIMILARITY,
    LabelProbabilities,
    NamedTokenizer,
    Subject,
    read_labelled,
)
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.data.tables import Data
from keras_peft.errors import OptionError
from keras_peft.extras import need


def check_data(
    data: Data,
    *,
    validation: Data | None = None,
    base: str | None = None,
    bundle: str | Path | None = None,
    task: str | None = None,
    similarity: float = SIMILARITY,
    **reading: Any,
) -> DataReport:
    """Checks labelled text for problems that would harm training.

    The data is read as for training; `report.reading` says how.

    Args:
        data: A path, or data in memory; see `read_examples`.
        validation: A second data set. Texts that occur in both are reported.
        base: The base whose tokenizer counts the tokens. Defaults to the default base.
        bundle: A bundle trained on similar data. The rows whose labels it finds least likely are
            reported.
        task: Name of the task; inferred from the columns and the labels by default.
        similarity: Texts with at least this similarity, from 0 to 1, are near duplicates.
        reading: How the data is read, where that is not detected: any argument of `ReadingOptions`, such as
            `text_column="body"` or `separator=";"`.

    Returns:
        A report with the findings and counts.

    Raises:
        DataError: If a file cannot be read or has no texts or labels.
        OptionError: If a value is invalid.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid.

    Example:
        >>> report = keras_peft.check_data("conversations.jsonl")
        >>> report.findings
        ()
        >>> report.facts("lengths")["longest"]
        92
    """
    need("Checking labelled text", "platformdirs", "scipy", "sklearn", "tokenizers")
    if not 0 < similarity <= 1:
        raise OptionError(f"`similarity={similarity:g}`: expected a number above 0 and up to 1.")
    options = ReadingOptions.of(reading)
    rows = read_labelled(data, task=None if task is None else tasks.find(task), options=options)
    others = None
    if validation is not None:
        others = read_labelled(validation, task=rows.task, known=tuple(rows.counts), options=options)
    classifier = None
    if bundle:
        check_form(rows)
        classifier = _classifier(bundle, base)
    name = base or sources.DEFAULT
    return check(
        Subject(rows, NamedTokenizer(name, *sources.load_tokenizer(name)), others, classifier, similarity)
    )


def _classifier(bundle: str | Path, base: str | None) -> LabelProbabilities:
    from keras_peft.predict import load_bundle

    loaded = load_bundle(bundle, base=base)
    return LabelProbabilities(str(bundle), loaded.labels, loaded.probabilities)
