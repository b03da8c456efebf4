"""keras-peft predict: labels texts with a bundle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_peft.cli.arguments import (
    AdapterName,
    BaseLocation,
    BundleName,
    EngineName,
    EscapeFormulas,
    Place,
    Separator,
    TextColumn,
)
from keras_peft.data.predicted import write_text
from keras_peft.data.readers import READABLE, has_bom
from keras_peft.engines import AUTO
from keras_peft.errors import DataError, OptionError
from keras_peft.files import whole_file
from keras_peft.places import MACHINE

if TYPE_CHECKING:
    from keras_peft.data.predicted import Predicted
    from keras_peft.data.readers import Row
    from keras_peft.predict import Classifier
    from keras_peft.sharding.inputs import Reading

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
        str | None,
        typer.Option(
            metavar="INPUT",
            help=f"Label the rows of a {READABLE}. With a folder as --output, also a pattern in quotes, such as "
            "'rows/*.parquet', or an address such as s3://bucket/rows.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUT",
            help="Write the rows with their predictions to a .csv, .tsv or .jsonl file; or to a folder of parts, one "
            "for each shard of rows. If it is interrupted, the same command writes the parts that are missing.",
            show_default=False,
        ),
    ] = None,
    base: BaseLocation = None,
    engine: EngineName = AUTO,
    adapter: AdapterName = None,
    text_column: TextColumn = None,
    separator: Separator = None,
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="Skip rows without text.")] = False,
    on: Place = MACHINE,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of workers, processes that write parts.",
            show_default="1; on Ray, one for each core of the cluster",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Format of the parts: csv, tsv, jsonl or parquet.",
            show_default="that of the input, or jsonl",
        ),
    ] = None,
    rows_per_shard: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of rows in a shard.", show_default="4096"),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace an existing output file, or other predictions in a folder."
        ),
    ] = False,
    escape_formulas: EscapeFormulas = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Label texts with a bundle; files of any size are streamed."""
    from keras_peft.cli.predict_folder import is_folder, predict_folder, refuse_folder_options

    if texts == ["-"]:
        texts = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        if not texts:
            raise DataError("stdin has no text to predict; expected one text per line.")
    _check(texts, input, output, separator)
    common: dict[str, Any] = {
        "base": base,
        "engine": engine,
        "adapter": adapter,
        "text_column": text_column,
        "separator": separator,
        "skip_bad_rows": skip_bad_rows,
        "overwrite": overwrite,
        "escape_formulas": escape_formulas,
    }
    options: dict[str, Any] = {
        "on": on,
        "workers": workers,
        "format": format,
        "rows_per_shard": rows_per_shard,
    }
    if input and output and is_folder(output):
        predict_folder(bundle, input, output, as_json=as_json, **common, **options)
        return
    refuse_folder_options(input, output, options)
    _predict_here(bundle, texts or [], input, output, as_json=as_json, **common)


def _check(texts: list[str] | None, input: str | None, output: str | None, separator: str | None) -> None:
    from keras_peft.inputs.strings import is_text

    if bool(texts) == bool(input):
        hint = "; put a pattern in quotes, so that the shell does not replace it" if texts else ""
        raise OptionError(f"Pass either texts or --input FILE{hint}.")
    if output and not input:
        raise OptionError(
            "--output requires --input; predictions for texts on the command line are printed to stdout."
        )
    if separator and not input:
        raise OptionError("--separator is for --input; remove it.")
    if not all(map(is_text, texts or ())):
        raise DataError("A text to predict is empty or not valid UTF-8.")


def _predict_here(
    bundle: str,
    texts: list[str],
    input: str | None,
    output: str | None,
    *,
    base: str | None,
    engine: str,
    adapter: str | None,
    text_column: str | None,
    separator: str | None,
    skip_bad_rows: bool,
    overwrite: bool,
    escape_formulas: bool,
    as_json: bool,
) -> None:
    """Predicts texts, or one file, and prints the predictions or writes them to one file."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import open_classifier, out, print_json, print_predictions, row_bar, table
    from keras_peft.files import refuse_existing
    from keras_peft.sharding.inputs import Reading
    from keras_peft.sharding.run import text_columns

    path, target = Path(input) if input else None, Path(output) if output else None
    if target:
        refuse_existing(target, overwrite=overwrite, error=OptionError, option="output")
    described = bundles.describe(bundle, adapter)
    columns = text_columns(described, text_column if path else None, bundle)
    reading = Reading(columns, described.input, skip_bad_rows, separator)
    given = _rows_of(texts, columns)
    # A first pass over the file finds bad rows and all columns before anything is loaded or written.
    total, found = _counted(_chunks(path, reading) if path else [given])
    chunks = _chunks(path, reading) if path else iter([given])

    classifier = open_classifier(bundle, described, base, engine)
    with row_bar("Predicting") as bars:
        task = bars.add_task("", total=total)
        labelled = _labelled(classifier, chunks, columns, lambda rows: bars.advance(task, rows))
        if target:
            bom = path is not None and has_bom(path)
            _write(target, labelled, found, bom=bom, escape=escape_formulas)
        elif as_json:
            print_predictions(prediction.to_json() for _, prediction in labelled)
        elif path:
            _print_lines(labelled, columns)
        else:
            answers = list(labelled)
    if target and as_json:
        print_json({"rows": total, "output": str(target)})
    elif target:
        out.print(f"Wrote {total:,} rows with predictions to {target}", soft_wrap=True)
    elif texts and not as_json:
        lines = ((*prediction.summary(), _joined(row, columns)) for row, prediction in answers)
        shown = table(None, ("label", "", "next", "text"), lines, left=4)
        out.print(shown)


def _counted(chunks: Iterable[list[Row]]) -> tuple[int, list[str]]:
    """Returns the number of rows, and all their columns."""
    total, found = 0, dict[str, None]()
    for chunk in chunks:
        total += len(chunk)
        found |= dict.fromkeys(key for row in chunk for key in row)
    return total, list(found)


def _rows_of(texts: list[str], columns: Sequence[str]) -> list[Row]:
    """Groups texts from the command line into rows."""
    if len(texts) % len(columns):
        raise OptionError(
            f"This bundle reads {len(columns)} texts per row ({', '.join(columns)}), but the number of texts is "
            f"{len(texts)}; pass the texts of each row one after the other."
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*[iter(texts)] * len(columns), strict=True)]


def _chunks(path: Path, reading: Reading) -> Iterator[list[Row]]:
    """Reads the rows that have a text, in chunks."""
    from keras_peft.data.plain_rows import batched

    is_empty = True
    for numbered in batched(reading.rows(path, str(path)), _CHUNK):
        is_empty = False
        yield [row for _, row in numbered]
    if is_empty:
        raise DataError(
            f"{path} has no row with text; expected texts in the column {', '.join(reading.columns)}."
        )


def _labelled(
    classifier: Classifier,
    chunks: Iterator[list[Row]],
    columns: Sequence[str],
    advance: Callable[[int], None],
) -> Iterator[Predicted]:
    for chunk in chunks:
        texts = [classifier.input.read([row.get(name) for name in columns]) for row in chunk]
        yield from zip(chunk, classifier.predict(texts, advance=advance), strict=True)


def _print_lines(labelled: Iterator[Predicted], columns: Sequence[str]) -> None:
    """Prints one line per row: label, probability and text, separated by tabs."""
    from keras_peft.cli.console import print_values

    for row, prediction in labelled:
        answer, sure, _ = prediction.summary()
        print_values(answer, *([sure] if sure else []), _joined(row, columns))


def _joined(row: Row, columns: Sequence[str]) -> str:
    """Joins the texts of a row into one line."""
    values = [row[column] for column in columns]
    texts = [" ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) for value in values]
    return " | ".join(" ".join(text.split()) for text in texts)


def _write(path: Path, labelled: Iterator[Predicted], columns: list[str], *, bom: bool, escape: bool) -> None:
    """Writes the rows with their predictions; the file is written completely or not at all."""
    try:
        with whole_file(path) as file:
            write_text(file, labelled, columns, path.suffix.lower(), bom=bom, escape=escape)
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror}); nothing was written.") from None
