"""keras-peft predict: labels texts with a bundle."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_peft.cli.arguments import (
    AdapterName,
    BaseLocation,
    BundleName,
    EngineName,
    EscapeFormulas,
    Separator,
    TextColumn,
)
from keras_peft.data.formulas import as_cells
from keras_peft.data.readers import READABLE, has_bom
from keras_peft.engines import AUTO
from keras_peft.errors import DataError, OptionError
from keras_peft.files import whole_file

if TYPE_CHECKING:
    from keras_peft.data.readers import Row
    from keras_peft.predict import Classifier
    from keras_peft.tasks import Prediction

OUTPUTS = (".csv", ".tsv", ".jsonl")
# Rows are read, predicted and written in chunks of this size.
_CHUNK = 4096


def predict(
    bundle: BundleName,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to label; for pairs, two texts each. - reads them from stdin, one per line.",
            show_default=False,
        ),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(help=f"Label the rows of a {READABLE}.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the rows with their predictions to a .csv, .tsv or .jsonl file."),
    ] = None,
    base: BaseLocation = None,
    engine: EngineName = AUTO,
    adapter: AdapterName = None,
    text_column: TextColumn = None,
    separator: Separator = None,
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="Skip rows without text.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")] = False,
    escape_formulas: EscapeFormulas = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Label texts with a bundle; files of any size are streamed."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import open_classifier, out, print_json, print_predictions, row_bar, table
    from keras_peft.data import names
    from keras_peft.files import refuse_existing
    from keras_peft.inputs.strings import is_text

    if texts == ["-"]:
        texts = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        if not texts:
            raise DataError("stdin has no text to predict; expected one text per line.")
    if bool(texts) == bool(input):
        raise OptionError("Pass either texts or --input FILE.")
    if output and not input:
        raise OptionError(
            "--output requires --input; predictions for texts on the command line are printed to stdout."
        )
    if output and output.suffix.lower() not in OUTPUTS:
        raise OptionError(f"--output {output}: expected a file that ends in {', '.join(OUTPUTS)}.")
    if separator and not input:
        raise OptionError("--separator is for --input; remove it.")
    if output:
        refuse_existing(output, overwrite=overwrite, error=OptionError, option="output")
    if not all(map(is_text, texts or ())):
        raise DataError("A text to predict is empty or not valid UTF-8.")
    described = bundles.describe(bundle, adapter)
    columns = list(names.split(text_column, described.columns) if text_column else described.columns[:-1])
    if not input:
        columns = list(described.columns[:-1])
    if len(columns) != described.texts_per_row:
        raise OptionError(
            f"--text-column {text_column}: {bundle} reads {described.texts_per_row} texts per row; pass one "
            "column name per text, separated by commas."
        )
    given = _rows_of(texts or [], columns)
    # A first pass over the file finds bad rows and all columns before anything is loaded or written.
    total, found = 0, dict[str, None]()
    for chunk in _chunks(input, columns, skip_bad_rows, separator) if input else [given]:
        total += len(chunk)
        found |= dict.fromkeys(key for row in chunk for key in row)
    chunks = _chunks(input, columns, skip_bad_rows, separator) if input else iter([given])

    classifier = open_classifier(bundle, described, base, engine)
    with row_bar("Predicting") as bars:
        task = bars.add_task("", total=total)
        labelled = _labelled(classifier, chunks, columns, lambda rows: bars.advance(task, rows))
        if output:
            _write(
                output,
                labelled,
                list(found),
                bom=input is not None and has_bom(input),
                escape=escape_formulas,
            )
        elif as_json:
            print_predictions(prediction.to_json() for _, prediction in labelled)
        elif input:
            _print_lines(labelled, columns)
        else:
            answers = list(labelled)
    if output and as_json:
        print_json({"rows": total, "output": str(output)})
    elif output:
        out.print(f"Wrote {total:,} rows with predictions to {output}", soft_wrap=True)
    elif texts and not as_json:
        lines = ((*prediction.summary(), _joined(row, columns)) for row, prediction in answers)
        shown = table(None, ("label", "", "next", "text"), lines, left=4)
        out.print(shown)


def _rows_of(texts: list[str], columns: list[str]) -> list[Row]:
    """Groups texts from the command line into rows."""
    if len(texts) % len(columns):
        raise OptionError(
            f"This bundle reads {len(columns)} texts per row ({', '.join(columns)}), but the number of texts is "
            f"{len(texts)}; pass the texts of each row one after the other."
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*[iter(texts)] * len(columns), strict=True)]


def _chunks(path: Path, columns: list[str], skip: bool, separator: str | None) -> Iterator[list[Row]]:
    """Reads the rows that have a text, in chunks."""
    from keras_peft.data.columns import check_column
    from keras_peft.data.plain_rows import PlainRows, batched
    from keras_peft.data.tables import open_data
    from keras_peft.inputs.cells import text_of

    def has_text(row: Row) -> bool:
        values = [row.get(column) for column in columns]
        return all(text_of(value) or (isinstance(value, list) and value) for value in values)

    kept_rows = 0
    plain = PlainRows(open_data(path, separator=separator))
    for column in columns if plain.first else ():
        check_column(plain.first[0], column, path, "text_column")
    for numbered in batched(plain, _CHUNK):
        rows = [row for _, row in numbered]
        with_text = list(map(has_text, rows))
        bad = [number for (number, _), fine in zip(numbered, with_text, strict=True) if not fine]
        if bad and not skip:
            raise DataError(
                f"{path}: row {bad[0]} has no text (rows are counted from 1); fix it, or skip such rows with "
                "--skip-bad-rows."
            )
        if kept := [row for row, fine in zip(rows, with_text, strict=True) if fine]:
            kept_rows += len(kept)
            yield kept
    if not kept_rows:
        raise DataError(f"{path} has no row with text; expected texts in the column {', '.join(columns)}.")


def _labelled(
    classifier: Classifier, chunks: Iterator[list[Row]], columns: list[str], advance: Callable[[int], None]
) -> Iterator[tuple[Row, Prediction]]:
    for chunk in chunks:
        texts = [classifier.input.read([row.get(name) for name in columns]) for row in chunk]
        yield from zip(chunk, classifier.predict(texts, advance=advance), strict=True)


def _print_lines(labelled: Iterator[tuple[Row, Prediction]], columns: list[str]) -> None:
    """Prints one line per row: label, probability and text, separated by tabs."""
    from keras_peft.cli.console import print_values

    for row, prediction in labelled:
        answer, sure, _ = prediction.summary()
        print_values(answer, *([sure] if sure else []), _joined(row, columns))


def _joined(row: Row, columns: list[str]) -> str:
    """Joins the texts of a row into one line."""
    values = [row[column] for column in columns]
    texts = [" ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) for value in values]
    return " | ".join(" ".join(text.split()) for text in texts)


def _write(
    path: Path,
    labelled: Iterator[tuple[Row, Prediction]],
    columns: list[str],
    *,
    bom: bool,
    escape: bool,
) -> None:
    """Writes the rows with their predictions; the file is written completely or not at all.

    An input column with the name of a new column is kept as `input.<name>`. If the input has a byte order mark,
    by which Excel recognises UTF-8, so has a table that is written.
    """
    is_json = path.suffix.lower() == ".jsonl"
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    renamed: dict[str, str] | None = None
    try:
        with whole_file(path) as file:
            if bom and not is_json:
                file.write("\ufeff")
            writer = csv.writer(file, delimiter=delimiter)
            for row, prediction in labelled:
                answer = prediction.to_json() if is_json else prediction.cells()
                if renamed is None:
                    renamed = _renamed(columns, list(answer))
                    if not is_json:
                        writer.writerow(as_cells([*renamed.values(), *answer], escape=escape))
                if is_json:
                    kept = {renamed[column]: value for column, value in row.items()}
                    file.write(json.dumps(kept | answer, ensure_ascii=False, default=str) + "\n")
                else:
                    cells = [*(row.get(column) for column in columns), *answer.values()]
                    writer.writerow(as_cells(cells, escape=escape))
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror}); nothing was written.") from None


def _renamed(columns: list[str], new: list[str]) -> dict[str, str]:
    """Renames input columns that have the name of a new column."""
    taken, renamed = {*new, *columns}, dict[str, str]()
    for column in columns:
        renamed[column] = column
        while renamed[column] in new or (renamed[column] != column and renamed[column] in taken):
            renamed[column] = f"input.{renamed[column]}"
        taken.add(renamed[column])
    return renamed
