"""Choose the texts that are worth labelling next: active learning.

The texts are those that a classifier is least sure of, and they differ from each other: a weighted k-means
groups the least certain ones, and the text nearest to each centre is chosen (Zhdanov 2019, "Diverse
mini-batch Active Learning", https://arxiv.org/abs/1901.05954).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.data import names
from keras_peft.data.columns import check_column
from keras_peft.data.duplicates import digests
from keras_peft.data.formulas import as_cells
from keras_peft.data.plain_rows import PlainRows, batched
from keras_peft.data.readers import Row
from keras_peft.data.tables import Data, open_data
from keras_peft.errors import DataError, OptionError
from keras_peft.files import refuse_existing, whole_file

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.predict import Classifier

WRITABLE = (".csv", ".tsv", ".jsonl")
COUNT = 50
# The least certain texts are grouped, this many for each one that is chosen.
_CANDIDATES = 10
_CHUNK = 4096
_PREDICTED, _CONFIDENCE = "predicted", "confidence"


@dataclass(frozen=True)
class RowsToLabel:
    """Rows that are worth labelling next.

    Attributes:
        rows: The rows, the least certain first: their columns, the label column, which is empty, and the
            classifier's answer as `predicted` with its confidence.
        labelled: The rows that have labels already, as they were read.
        pool: Number of different texts without labels that were chosen from.
        columns: Names of the text columns, followed by the name of the label column.
    """

    rows: list[Row]
    labelled: list[Row]
    pool: int
    columns: tuple[str, ...]

    def write(self, path: str | Path, *, overwrite: bool = False, escape_formulas: bool = True) -> None:
        """Writes the rows to fill in, followed by the labelled ones, as a file to train on.

        Args:
            path: A .csv, .tsv or .jsonl file.
            overwrite: Replace an existing file.
            escape_formulas: Whether cells of a CSV or TSV file that a spreadsheet would run get an apostrophe,
                which keras-peft removes when it reads the file.

        Raises:
            OptionError: If the file cannot be written.
        """
        path = Path(path)
        check_writable(path, overwrite=overwrite)
        rows = [*self.rows, *self.labelled]
        names = list(dict.fromkeys([*self.columns, *(name for row in rows for name in row)]))
        try:
            with whole_file(path) as file:
                if path.suffix.lower() == ".jsonl":
                    for row in rows:
                        file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
                else:
                    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
                    writer = csv.writer(file, delimiter=delimiter)
                    table = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
                    writer.writerows(as_cells(values, escape=escape_formulas) for values in table)
        except OSError as error:
            raise OptionError(f"{path} cannot be written ({error.strerror}); nothing was written.") from None


def rows_to_label(
    classifier: Classifier,
    pool: Data,
    *,
    count: int = COUNT,
    labelled: Data | None = None,
    text_column: str | None = None,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> RowsToLabel:
    """Chooses the rows of a file whose labels a classifier would learn most from.

    Args:
        classifier: A classifier, from `load`.
        pool: Rows without labels: a path, or data in memory, as for labelled text, of any size. Rows that have
            a label are left out.
        count: Number of rows to choose.
        labelled: Rows that have labels. Their texts are not chosen, and `RowsToLabel.write` adds them.
        text_column: Name of the text column, or two names separated by a comma for pairs; by default the
            one used in training.
        seed: Random seed of the groups.
        advance: Called with the number of rows after each batch.

    Returns:
        The rows.

    Raises:
        DataError: If a file cannot be read, or has no text to choose.
        OptionError: If an argument is invalid, or the task has no confidence in its answers.

    Example:
        >>> classifier = keras_peft.load("my-bundle")
        >>> chosen = keras_peft.rows_to_label(classifier, "pool.csv", count=20, labelled="rows.csv")
        >>> chosen.write("rows-2.csv")
    """
    if count < 1:
        raise OptionError(f"`count={count}`: expected 1 or more.")
    classifier.task.check_confident()
    *own, label = classifier.bundle.columns
    columns = list(names.split(text_column, own)) if text_column else own
    # A bundle may be trained on a column of 0 and 1 for each label.
    label_columns = names.split(label, (label,) if "," not in label else ())
    if len(columns) != classifier.texts_in_a_row:
        raise OptionError(
            f"`text_column={text_column!r}`: {classifier.bundle.folder} reads {classifier.texts_in_a_row} texts per "
            "row; name one column per text, separated by commas."
        )
    known: list[Row] = []
    seen = set[bytes]()
    if labelled is not None:
        table = open_data(labelled)
        known = [row for _, row in PlainRows(table)]
        for name in (*columns, *label_columns):
            check_column(known[0] if known else {}, name, table.name, "labelled")
        seen = set(digests(classifier.input.read([row.get(name) for name in columns]) for row in known))
    candidates = _Candidates(_CANDIDATES * count)
    different = 0
    with classifier.vectors_and_outputs(advance=advance) as compute:
        for rows in _different(pool, classifier, columns, label_columns, seen):
            texts = [classifier.input.read([row.get(name) for name in columns]) for row in rows]
            vectors, outputs = compute(texts)
            answers = [prediction.summary() for prediction in classifier.task.predictions(outputs, texts)]
            different += len(rows)
            candidates.add(
                [
                    {**_renamed(row), **dict.fromkeys(label_columns), _PREDICTED: answer, _CONFIDENCE: sure}
                    for row, (answer, sure, _) in zip(rows, answers, strict=True)
                ],
                vectors,
                classifier.task.uncertainty(outputs),
            )
    if not different:
        raise DataError(
            f"{pool} has no text to choose: all are empty or have a label"
            + (f", there or in {labelled}." if labelled is not None else ".")
        )
    chosen = candidates.spread(count, seed=seed)
    return RowsToLabel(chosen, known, different, (*columns, *label_columns))


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Checks that rows can be written to a file.

    Args:
        path: The file.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OptionError: If the format is not supported, or the file exists.
    """
    if path.suffix.lower() not in WRITABLE:
        raise OptionError(f"{path}: expected a file that ends in {', '.join(WRITABLE)}.")
    refuse_existing(path, overwrite=overwrite, error=OptionError)


class _Candidates:
    """The least certain rows so far.

    Args:
        most: Number of rows to keep.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: list[Row] = []
        self._vectors: Any = None
        self._doubts: Any = None

    def add(self, rows: list[Row], vectors: np.ndarray, doubts: np.ndarray) -> None:
        """Adds rows with their vectors (rows, dim) and uncertainties (rows,), and keeps the least certain."""
        import numpy as np

        if self._rows:
            rows = self._rows + rows
            vectors = np.concatenate([self._vectors, vectors])
            doubts = np.concatenate([self._doubts, doubts])
        order = np.argsort(-doubts, kind="stable")[: self._most]
        self._rows = [rows[place] for place in order]
        self._vectors, self._doubts = vectors[order], doubts[order]

    def spread(self, count: int, *, seed: int) -> list[Row]:
        """Returns rows that differ from each other, the least certain first."""
        import numpy as np

        if len(self._rows) <= count:
            return self._rows
        from sklearn.cluster import KMeans

        vectors = self._vectors / np.maximum(np.linalg.norm(self._vectors, axis=1, keepdims=True), 1e-12)
        # K-means needs weights above zero, and not more groups than vectors.
        number = min(count, len(np.unique(vectors, axis=0)))
        groups = KMeans(number, n_init=1, random_state=seed).fit(
            vectors, sample_weight=np.maximum(self._doubts, 1e-6)
        )
        distances = groups.transform(vectors)
        chosen = []
        for group in range(number):
            members = np.flatnonzero(groups.labels_ == group)
            if len(members):
                chosen.append(int(members[np.argmin(distances[members, group])]))
        # With equal vectors there are fewer groups; the least certain rows fill the rest.
        taken = set(chosen)
        chosen += [place for place in range(len(self._rows)) if place not in taken][: count - len(chosen)]
        return [self._rows[place] for place in sorted(chosen)]


def _different(
    pool: Data, classifier: Classifier, columns: Sequence[str], labels: Sequence[str], seen: set[bytes]
) -> Iterator[list[Row]]:
    """Yields chunks of rows that have no label, and a text which did not occur before."""
    table = open_data(pool)
    plain = PlainRows(table)
    for column in columns if plain.first else ():
        check_column(plain.first[0], column, table.name, "text_column")
    for rows in batched((row for _, row in plain), _CHUNK):
        texts = [classifier.input.read([row.get(column) for column in columns]) for row in rows]
        kept = []
        for row, text, digest in zip(rows, texts, digests(texts), strict=True):
            if text and digest not in seen and all(_is_missing(row.get(name)) for name in labels):
                seen.add(digest)
                kept.append(row)
        if kept:
            yield kept


def _renamed(row: Row) -> Row:
    """Returns a row whose columns have other names than the new ones."""
    return {
        f"input.{name}" if name in (_PREDICTED, _CONFIDENCE) else name: value for name, value in row.items()
    }


def _is_missing(value: Any) -> bool:
    """Returns whether a cell is empty; the label 0 and an empty list of labels are not."""
    return value is None or (isinstance(value, str) and not value.strip())


def _cell(value: Any) -> Any:
    """Returns a value for a table without lists."""
    return "|".join(map(str, value)) if isinstance(value, list | tuple) else value
