"""Writes rows with their predictions: CSV, TSV, JSON Lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from keras_peft.data.formulas import as_cells, unprotected
from keras_peft.data.readers import Row
from keras_peft.errors import OptionError
from keras_peft.extras import need

if TYPE_CHECKING:
    from keras_peft.tasks import Prediction, Task

TEXT_ENDINGS = (".csv", ".tsv", ".jsonl")
PARQUET = ".parquet"
ENDINGS = (*TEXT_ENDINGS, PARQUET)

Predicted = tuple[Row, "Prediction"]
"""A row and its prediction."""
_LABEL_COLUMNS = {"single_label_classification": "label", "multi_label_classification": "labels"}


def write_text(
    file: TextIO,
    predicted: Iterable[Predicted],
    columns: Sequence[str],
    ending: str,
    *,
    bom: bool = False,
    escape: bool = True,
) -> None:
    """Writes rows with their predictions as text.

    An input column with the name of a new column is kept as `input.<name>`.

    Args:
        file: The open file.
        predicted: The rows with their predictions.
        columns: The columns of all rows. A row may lack some.
        ending: One of `TEXT_ENDINGS`.
        bom: Whether a table begins with a byte order mark, by which Excel recognises UTF-8.
        escape: Whether cells that a spreadsheet would run get an apostrophe.
    """
    is_json = ending == ".jsonl"
    if bom and not is_json:
        file.write("\ufeff")
    writer = csv.writer(file, delimiter="\t" if ending == ".tsv" else ",")
    renamed: dict[str, str] | None = None
    for row, prediction in predicted:
        answer = prediction.to_json() if is_json else prediction.cells()
        if renamed is None:
            renamed = renamed_columns(columns, list(answer))
            if not is_json:
                writer.writerow(as_cells([*renamed.values(), *answer], escape=escape))
        if is_json:
            kept = {renamed[column]: value for column, value in row.items()}
            file.write(json.dumps(kept | answer, ensure_ascii=False, default=str) + "\n")
        else:
            cells = [*(row.get(column) for column in columns), *answer.values()]
            writer.writerow(as_cells(cells, escape=escape))


def write_parquet(
    path: Path, predicted: Iterable[Predicted], columns: Sequence[str], schema: bytes | None
) -> None:
    """Writes rows with their predictions as Parquet.

    Args:
        path: The file.
        predicted: The rows with their predictions.
        columns: The columns of all rows. A row may lack some.
        schema: The types of the columns; see `Types`.
    """
    import polars as pl

    rows, answers = [], []
    for row, prediction in predicted:
        rows.append(row)
        answers.append(prediction.cells())
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if schema is not None:
        types = pl.read_parquet(io.BytesIO(schema))
        frame = pl.concat([types, frame], how="diagonal_relaxed").select(types.columns)
        # Nulls alone have no type of their own.
        frame = frame.cast(types.schema)
    frame = frame.rename(renamed_columns(columns, list(answers[0])))
    new = pl.DataFrame(answers, schema_overrides=_types_of(answers[0]), infer_schema_length=None)
    pl.concat([frame, new], how="horizontal").write_parquet(path)


def _types_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the types of the new columns, which are the same whether or not all answers of a part are missing."""
    import polars as pl

    return {name: pl.Float64 if isinstance(value, float) else pl.String for name, value in answer.items()}


class Types:
    """Finds types for the columns of a Parquet file that fit all rows.

    Example:
        >>> types = Types()
        >>> types.see([{"text": "a", "n": None}])
        >>> types.see([{"text": "b", "n": 1}])
        >>> schema = types.schema()
    """

    def __init__(self) -> None:
        need("Writing Parquet", "polars")
        self._empty: Any = None

    def see(self, rows: Sequence[Row], source: str = "the input") -> None:
        """Considers further rows.

        Args:
            rows: The rows.
            source: Where they are from, for the message.

        Raises:
            OptionError: If a column has values of several types that no type includes.
        """
        import polars as pl

        try:
            frame = pl.DataFrame(rows, infer_schema_length=None)
            known = frame.clear() if self._empty is None else self._empty
            self._empty = pl.concat([known, frame.clear()], how="diagonal_relaxed")
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            raise _several_types(source) from None
        # Polars drops a number next to an object.
        missing = {name: sum(row.get(name) is None for row in rows) for name in frame.columns}
        if frame.null_count().to_dicts() != [missing] or not all(
            _fit(own, known.schema.get(name, own)) for name, own in frame.schema.items()
        ):
            raise _several_types(source)

    def schema(self) -> bytes:
        """Returns the types as an empty Parquet file."""
        content = io.BytesIO()
        self._empty.write_parquet(content)
        return content.getvalue()


def _fit(one: Any, other: Any) -> bool:
    """Reports whether two types are both of single values, or both of lists or objects."""
    import polars as pl

    return pl.Null in (one, other) or one.is_nested() == other.is_nested()


def _several_types(source: str) -> OptionError:
    return OptionError(
        f"{source} has a column with values of several types, which Parquet cannot store; set `format='jsonl'`."
    )


def renamed_columns(columns: Iterable[str], new: Sequence[str]) -> dict[str, str]:
    """Renames input columns that have the name of a new column.

    Args:
        columns: The columns of the input.
        new: The new columns.

    Returns:
        The names of the columns in the output, by those in the input.
    """
    taken, renamed = {*new, *columns}, dict[str, str]()
    for column in columns:
        renamed[column] = column
        while renamed[column] in new or (renamed[column] != column and renamed[column] in taken):
            renamed[column] = f"input.{renamed[column]}"
        taken.add(renamed[column])
    return renamed


def label_column(task: Task) -> str | None:
    """Returns the column of predictions that has the label or labels; None if the task has no labels of texts.

    Args:
        task: The task.
    """
    return _LABEL_COLUMNS.get(task.problem_type or "")


def labels_of(prediction: Prediction, column: str | None) -> list[str]:
    """Returns the labels of a prediction; "" if the classifier gave none.

    Args:
        prediction: The prediction.
        column: The column that has them; None if there is none.
    """
    return [] if column is None else _labels(prediction.to_json()[column], column)


def labels_in(path: Path, ending: str, column: str | None) -> Iterator[list[str]]:
    """Reads back the labels of rows that were written with their predictions.

    Args:
        path: The file.
        ending: One of `ENDINGS`.
        column: The column that has them; None if there is none.

    Yields:
        The labels of each row, as `labels_of` returns them.

    Raises:
        ValueError: If the file is damaged.
    """
    for row in _read(path, ending, column):
        if column is not None and column not in row:
            raise ValueError(f"no column {column!r}")
        yield [] if column is None else _labels(row[column], column)


def _read(path: Path, ending: str, column: str | None) -> Iterator[Row]:
    if ending == PARQUET:
        import polars as pl

        try:
            frame = pl.read_parquet(path, columns=None if column is None else [column], glob=False)
            yield from frame.iter_rows(named=True)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise ValueError(str(error)) from error
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        if ending == ".jsonl":
            yield from map(json.loads, file)
            return
        try:
            for row in csv.DictReader(file, delimiter="\t" if ending == ".tsv" else ","):
                yield {name: unprotected(value) for name, value in row.items() if isinstance(value, str)}
        except csv.Error as error:
            raise ValueError(str(error)) from error


def _labels(value: Any, column: str) -> list[str]:
    """Returns the labels in a value that `Prediction.cells` or `Prediction.to_json` gave."""
    if column == _LABEL_COLUMNS["single_label_classification"]:
        value = [value or ""]
    elif isinstance(value, str):
        value = json.loads(value) if value.startswith("[") else value.split("|")
    return list(value) or [""]
