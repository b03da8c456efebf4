"""Check labelled text for problems, optionally with a bundle that was trained on it."""

from __future__ import annotations

from pathlib import Path

from keras_peft import sources
from keras_peft.data.check import DataReport, check
from keras_peft.data.check.doubts import check_form
from keras_peft.data.check.subject import (
    SIMILARITY,
    LabelProbabilities,
    NamedTokenizer,
    Subject,
    read_labelled,
)
from keras_peft.errors import OptionError
from keras_peft.extras import need


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
    """Checks labelled text for problems that would harm training.

    Instead of a text column, the data may have pairs (`text_a`, `text_b`) or `tokens`. Instead
    of a label column, it may have `labels` (a list) or `tags` (one per token). Numeric labels
    that have fractions or many distinct values are treated as regression targets.

    Args:
        data: A .csv, .tsv, .json, .jsonl, .parquet or .arrow file, or a folder saved by Hugging
            Face Datasets.
        validation: A second data set. Texts that occur in both are reported.
        base: The base whose tokenizer counts the tokens. Defaults to the default base.
        bundle: A bundle trained on similar data. The rows whose labels it finds least likely are
            reported.
        text_column: Name of the text column.
        label_column: Name of the label column.
        similarity: Texts with at least this similarity, from 0 to 1, are near duplicates.

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
    rows = read_labelled(data, text_column, label_column)
    others = read_labelled(validation, text_column, label_column) if validation else None
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
