"""keras-peft predict: a bundle and texts in, labels and probabilities out."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_peft.errors import DataError, OptionError
from keras_peft.files import whole_file
from keras_peft.readers import READABLE

if TYPE_CHECKING:
    from keras_peft.predict import Classifier, Prediction
    from keras_peft.readers import Row

OUTPUTS = (".csv", ".tsv", ".jsonl")
# Rows are read, predicted and written in chunks of this many, whatever the file's size.
_CHUNK = 4096


def predict(
    bundle: Annotated[Path, typer.Argument(help="A folder that train wrote.", show_default=False)],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to label.", show_default=False)] = None,
    input: Annotated[
        Path | None,
        typer.Option(help=f"Label the rows of a {READABLE}.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the rows with labels to a .csv, .tsv or .jsonl file.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Where the base lies now.", show_default="where it was in training")
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column with the texts.")] = "text",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows without text.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Label texts with a bundle; a file of any size is streamed."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import open_classifier, out, print_json, row_bar, table
    from keras_peft.data import is_text

    if bool(texts) == bool(input):
        raise OptionError("Give either texts or --input FILE to predict.")
    if output and not input:
        raise OptionError("--output goes with --input; texts on the command line are answered on stdout.")
    if output and output.suffix.lower() not in OUTPUTS:
        raise OptionError(f"--output {output}: expected a file that ends in {', '.join(OUTPUTS)}.")
    if output and output.exists() and not overwrite:
        raise OptionError(f"{output} exists; choose another --output, or replace it with --overwrite.")
    if not all(map(is_text, texts or ())):
        raise DataError("A text to predict is empty or not valid UTF-8.")
    bundles.read(bundle)
    column = text_column if input else "text"
    given: list[Row] = [{"text": text} for text in texts or ()]
    # One pass over the file finds its faults and its columns before anything is loaded or written.
    total, columns = 0, dict[str, None]()
    for chunk in _chunks(input, column, skip_bad_rows) if input else [given]:
        total += len(chunk)
        columns |= dict.fromkeys(key for row in chunk for key in row)
    chunks = _chunks(input, column, skip_bad_rows) if input else iter([given])

    classifier = open_classifier(bundle, base)
    with row_bar("Predicting") as bars:
        task = bars.add_task("", total=total)
        labelled = _labelled(classifier, chunks, column, lambda rows: bars.advance(task, rows))
        if output:
            _write(output, labelled, list(columns), classifier.labels)
        elif as_json:
            _print_predictions(labelled)
        elif input:
            _print_lines(labelled, column)
        else:
            answers = list(labelled)
    if output and as_json:
        print_json({"rows": total, "output": str(output)})
    elif output:
        out.print(f"{total:,} rows labelled in {output}", soft_wrap=True)
    elif texts and not as_json:
        shown = table(
            None, ("label", "", "next", "text"), (_cells(p, row["text"]) for row, p in answers), left=4
        )
        out.print(shown)


def _chunks(path: Path, column: str, skip: bool) -> Iterator[list[Row]]:
    """Reads the rows that have a text."""
    from keras_peft.data import check_column, is_text
    from keras_peft.readers import read_rows

    seen = kept_rows = 0
    for rows in read_rows(path, chunk=_CHUNK):
        if rows and not seen:
            check_column(rows[0], column, path, "--text-column")
        with_text = [is_text(row.get(column)) for row in rows]
        bad = [seen + n for n, fine in enumerate(with_text, 1) if not fine]
        if bad and not skip:
            raise DataError(
                f"{path}: row {bad[0]} has no text (rows are counted from 1); mend it, or leave such rows out with "
                "--skip-bad-rows."
            )
        seen += len(rows)
        if kept := [row for row, fine in zip(rows, with_text, strict=True) if fine]:
            kept_rows += len(kept)
            yield kept
    if not kept_rows:
        raise DataError(f"{path} has no row with a text; expected texts in the column {column!r}.")


def _labelled(
    classifier: Classifier, chunks: Iterator[list[Row]], column: str, advance: Callable[[int], None]
) -> Iterator[tuple[Row, Prediction]]:
    for chunk in chunks:
        texts = [row[column] for row in chunk]
        yield from zip(chunk, classifier.predict(texts, advance=advance), strict=True)


def _print_predictions(labelled: Iterator[tuple[Row, Prediction]]) -> None:
    """Prints one JSON object without holding all of it."""
    print('{"predictions": [', end="")  # noqa: T201
    for number, (_, prediction) in enumerate(labelled):
        separator = ", " if number else ""
        print(separator + json.dumps(prediction.to_json(), ensure_ascii=False), end="")  # noqa: T201
    print("]}")  # noqa: T201


def _print_lines(labelled: Iterator[tuple[Row, Prediction]], column: str) -> None:
    """Prints label, probability and text, separated by tabs, a row a line."""
    for row, prediction in labelled:
        text = " ".join(row[column].split())
        print(f"{prediction.label}\t{prediction.probabilities[prediction.label]:.3f}\t{text}")  # noqa: T201


def _cells(prediction: Prediction, text: str) -> tuple[str, str, str, str]:
    first, *others = prediction.probabilities.items()
    after = ", ".join(f"{label} {probability:.3f}" for label, probability in others[:2])
    return first[0], f"{first[1]:.3f}", after, text


def _write(
    path: Path, labelled: Iterator[tuple[Row, Prediction]], columns: list[str], labels: tuple[str, ...]
) -> None:
    """Writes the rows with their predictions; the file is whole or absent.

    An input column that has the name of a new one is kept as `input.<name>`.
    """
    is_json = path.suffix.lower() == ".jsonl"
    new = (
        ["label", "probabilities"]
        if is_json
        else ["label", "probability", *(f"probability.{x}" for x in labels)]
    )
    taken, renamed = {*new, *columns}, dict[str, str]()
    for column in columns:
        renamed[column] = column
        while renamed[column] in new or (renamed[column] != column and renamed[column] in taken):
            renamed[column] = f"input.{renamed[column]}"
        taken.add(renamed[column])
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with whole_file(path) as file:
            writer = csv.writer(file, delimiter=delimiter)
            if not is_json:
                writer.writerow([*renamed.values(), *new])
            for row, prediction in labelled:
                if is_json:
                    kept = {renamed[column]: value for column, value in row.items()}
                    file.write(
                        json.dumps(kept | prediction.to_json(), ensure_ascii=False, default=str) + "\n"
                    )
                else:
                    probabilities = prediction.probabilities
                    answer = [
                        prediction.label,
                        probabilities[prediction.label],
                        *(probabilities[x] for x in labels),
                    ]
                    writer.writerow([*(row.get(column) for column in columns), *answer])
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror}); nothing was written.") from None
