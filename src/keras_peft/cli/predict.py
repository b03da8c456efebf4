"""keras-peft predict: a bundle and texts in, labels and probabilities out."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_peft.errors import DataError, OptionError

if TYPE_CHECKING:
    from keras_peft.data import Row
    from keras_peft.predict import Classifier, Prediction

OUTPUTS = (".csv", ".tsv", ".jsonl")
# Rows are read, predicted and written in chunks of this many, whatever the file's size.
_CHUNK = 4096


def predict(
    bundle: Annotated[Path, typer.Argument(help="A folder that train wrote.", show_default=False)],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to label.", show_default=False)] = None,
    input: Annotated[
        Path | None,
        typer.Option(help="Label the rows of a .csv, .tsv, .jsonl or .parquet file.", show_default=False),
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

    if bool(texts) == bool(input):
        raise OptionError("Give either texts or --input FILE to predict.")
    if output and not input:
        raise OptionError("--output goes with --input; texts on the command line are answered on stdout.")
    if output and output.suffix.lower() not in OUTPUTS:
        raise OptionError(f"--output {output}: expected a file that ends in {', '.join(OUTPUTS)}.")
    if output and output.exists() and not overwrite:
        raise OptionError(f"{output} exists; choose another --output, or replace it with --overwrite.")
    if any(not text.strip() for text in texts or ()):
        raise DataError("A text to predict is empty.")
    bundles.read(bundle)
    column = text_column if input else "text"
    given: list[Row] = [{"text": text} for text in texts or ()]
    # One pass over the file finds its faults before anything is loaded or written.
    total = sum(map(len, _chunks(input, column, skip_bad_rows))) if input else len(given)
    chunks = _chunks(input, column, skip_bad_rows) if input else iter([given])

    classifier = open_classifier(bundle, base)
    with row_bar("Predicting") as bars:
        task = bars.add_task("", total=total)
        labelled = _labelled(classifier, chunks, column, lambda rows: bars.advance(task, rows))
        if output:
            count = _write(output, labelled, classifier.labels)
        elif as_json:
            _print_predictions(labelled)
        else:
            rows = [(p.label, f"{p.probabilities[p.label]:.3f}", str(row[column])) for row, p in labelled]
    if output:
        if as_json:
            print_json({"rows": count, "output": str(output)})
        else:
            out.print(f"{count:,} rows labelled in {output}")
    elif not as_json:
        shown = table(None, ("label", "probability", "text"), iter(rows))
        shown.columns[2].justify, shown.columns[2].no_wrap = "left", False
        out.print(shown)


def _chunks(path: Path, column: str, skip: bool) -> Iterator[list[Row]]:
    """Reads the rows that have a text."""
    from keras_peft.data import check_column, read_rows

    seen = kept_rows = 0
    for rows in read_rows(path, chunk=_CHUNK):
        if rows and not seen:
            check_column(rows[0], column, path, "--text-column")
        with_text = [isinstance(row.get(column), str) and bool(row[column].strip()) for row in rows]
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


def _write(path: Path, labelled: Iterator[tuple[Row, Prediction]], labels: tuple[str, ...]) -> int:
    """Writes the rows with their predictions; the file is whole or absent.

    An input column that has the name of a new one is kept as `input.<name>`.
    """
    count = 0
    is_json = path.suffix.lower() == ".jsonl"
    new = {"label", "probabilities" if is_json else "probability"}
    if not is_json:
        new |= {f"probability.{label}" for label in labels}
    with _whole_file(path) as file:
        writer: csv.DictWriter[str] | None = None
        for row, prediction in labelled:
            kept: dict[str, Any] = {
                f"input.{key}" if key in new else key: value for key, value in row.items()
            }
            if is_json:
                file.write(json.dumps(kept | prediction.to_json(), ensure_ascii=False, default=str) + "\n")
            else:
                kept |= {"label": prediction.label, "probability": prediction.probabilities[prediction.label]}
                kept |= {f"probability.{label}": prediction.probabilities[label] for label in labels}
                if writer is None:
                    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
                    writer = csv.DictWriter(file, list(kept), delimiter=delimiter, extrasaction="ignore")
                    writer.writeheader()
                writer.writerow(kept)
            count += 1
    return count


@contextmanager
def _whole_file(path: Path) -> Iterator[Any]:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror}).") from None
    staging = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        staging.chmod(0o644)
        staging.replace(path)
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror}); nothing was written.") from None
    finally:
        staging.unlink(missing_ok=True)
