"""Labelled text, and perhaps a bundle that was trained on it, to what is odd about it."""

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
        BaseError: If the base cannot be loaded.
        BundleError: If there is no sound bundle.

    Example:
        >>> report = check_data("conversations.jsonl")
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
