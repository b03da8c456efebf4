"""Splits a file of labelled text into a folder of training, validation and test files.

The file is read twice: first to assign each row to a subset, with a few bytes kept per row, then
to write the rows. It may therefore be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.data import reading
from keras_peft.data.columns import check_column
from keras_peft.data.plain_rows import PlainRows, batched
from keras_peft.data.readers import Row, ending_of, has_bom
from keras_peft.data.reading import LabelledText
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.data.tables import open_data
from keras_peft.data.writing import open_table
from keras_peft.errors import DataError, OptionError
from keras_peft.extras import need
from keras_peft.files import refuse_existing, whole_folder
from keras_peft.store import LABELS, Collector

if TYPE_CHECKING:
    import numpy as np

SIDES = ("train", "validation", "test")
# Number of quantile bins for numeric labels; the bins then serve as labels.
_PARTS = 10
# Bytes kept of the hash that identifies a group.
_DIGEST = 16
# Rows per written batch.
_CHUNK = 4096


@dataclass(frozen=True)
class FileSplit:
    """Result of `split_file`.

    Attributes:
        files: Path of each subset's file.
        rows: Number of rows in each subset.
        labels: Number of rows in each subset, by label; empty if there are no labels or they are
            numbers.
        reading: How the file was read, in one line.
    """

    files: dict[str, Path]
    rows: dict[str, int]
    labels: dict[str, dict[str, int]]
    reading: str

    def to_json(self) -> dict[str, Any]:
        """Returns `{"files": …, "rows": …, "labels": …, "reading": …}`."""
        files = {side: str(path) for side, path in self.files.items()}
        return {"files": files, "rows": self.rows, "labels": self.labels, "reading": self.reading}


def split_file(
    data: str | Path,
    out: str | Path,
    *,
    test: float = 0.2,
    validation: float = 0.1,
    group_by: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    escape_formulas: bool = True,
    **options: Any,
) -> FileSplit:
    """Splits a file into subsets with the same proportion of every label.

    Rows of the same group go to the same subset; without `group_by`, rows with the same text form a
    group. A label with at least two groups is always in the training subset. The assignment depends on
    the seed and the content of the file, not on the order of its rows.

    Args:
        data: File or folder that `read_table` reads.
        out: Folder for the `train`, `validation` and `test` files. CSV, TSV, JSON, JSON Lines and Parquet keep
            their format, Arrow files and saved datasets become Parquet, and everything else, such as Excel, one
            token per line and exports of annotation tools, becomes JSON Lines.
        test: Fraction of the rows for testing, from 0 to below 1; with 0, no such file is written.
        validation: Fraction of the rows for validation, from 0 to below 1; with 0, no such file is
            written.
        group_by: Column whose values must not occur in more than one subset.
        seed: Random seed; the same seed gives byte-identical files.
        overwrite: Whether to replace an existing split.
        escape_formulas: Whether cells of CSV and TSV files that a spreadsheet would run get an apostrophe, which
            keras-peft removes when it reads them.
        options: How the file is read, where that is not detected: any argument of `ReadingOptions`. If no
            label column is found, the rows are split at random.

    Returns:
        The files and their contents.

    Raises:
        DataError: If the file cannot be read or changes while it is read, a column is missing, or
            a subset would be empty.
        OptionError: If an option is invalid, or `out` exists or cannot be written.

    Example:
        >>> split_file("conversations.jsonl", "parts").rows
        {'train': 168, 'validation': 24, 'test': 48}
    """
    need("Splitting a file", "polars")
    path, out = Path(data), Path(out)
    shares = {"validation": validation, "test": test}
    _check_options(path, out, shares, overwrite)
    read = reading.read(path, options=ReadingOptions.of(options), needs=())
    rows_of = _Source(path, read, options.get("separator"))
    if group_by is not None:
        check_column(rows_of.first, group_by, path, "group_by")
    labels, described = _labels(read), replace(read.reading, hint="")
    has_values = described.task.name == "regression"
    # The texts are not needed any more, and take bytes of memory for each row even if they are on disk.
    del read
    groups = rows_of.groups(group_by, seed)
    wanted = {"train": 1 - test - validation, **{side: share for side, share in shares.items() if share}}
    sides = _assign(groups, _parts(labels) if has_values else labels, wanted, rows_of, group_by)
    rows = {side: int((sides == number).sum()) for number, side in enumerate(wanted)}
    if empty := [side for side, count in rows.items() if not count]:
        raise DataError(
            f"{path} is too small for this split: nothing is left for {' and '.join(empty)}. Add rows, use a larger "
            "fraction"
            + (" or set it to 0." if group_by is None else ", set it to 0 or group by another column.")
        )
    ending = rows_of.ending
    try:
        with whole_folder(out, overwrite=overwrite) as staging:
            _write(rows_of, [staging / f"{side}{ending}" for side in wanted], sides, escape_formulas)
    except OSError as error:
        raise OptionError(
            f"{out} cannot be written ({error.strerror or error}); nothing was written."
        ) from None
    return FileSplit(
        files={side: out / f"{side}{ending}" for side in wanted},
        rows=rows,
        labels={} if has_values else _counts(labels, sides, list(wanted)),
        reading=described.line,
    )


def _check_options(path: Path, out: Path, shares: dict[str, float], overwrite: bool) -> None:
    for side, share in shares.items():
        if not 0 <= share < 1:
            raise OptionError(f"`{side}={share:g}`: expected a fraction from 0 to below 1.")
    if not 0 < sum(shares.values()) < 1:
        raise OptionError(
            f"`test={shares['test']:g}` and `validation={shares['validation']:g}`: expected at least one above 0, and "
            "together less than 1, so that some rows are left for training."
        )
    refuse_existing(
        out, overwrite=overwrite, error=OptionError, kind="a folder with only a split", is_kind=_is_split
    )
    if out.exists() and path.resolve().is_relative_to(out.resolve()):
        raise OptionError(f"{path} is in {out}, which would be replaced; choose another `out`.")


def _is_split(folder: Path) -> bool:
    # The folder is replaced as a whole, so it must not contain anything else.
    return folder.is_dir() and all(other.name.partition(".")[0] in SIDES for other in folder.iterdir())


class _Source:
    """The rows of the file to split, each time it is read.

    Args:
        path: The file.
        read: What was read of it.
        separator: Separator of the values, if it was named.
    """

    def __init__(self, path: Path, read: LabelledText, separator: str | None) -> None:
        self.path = path
        self._table = open_data(path, separator=separator)
        self._plain = PlainRows(self._table)
        self._texts = read.reading.columns.texts
        self.first = self._plain.first[0]

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self._plain)

    @property
    def ending(self) -> str:
        """File extension of the format to write."""
        ending = ending_of(self.path)
        if self.path.is_dir() and (self.path / "state.json").is_file():
            return ".parquet"
        if self.path.is_dir() or self._plain.tool is not None:
            return ".jsonl"
        if ending in (".arrow", ".parquet"):
            return ".parquet"
        are_lines = all(value is None or isinstance(value, str) for value in self.first.values())
        if ending.removesuffix(".gz") in (".csv", ".tsv"):
            return ending if are_lines else ".jsonl"
        return ending if ending.removesuffix(".gz") in (".json", ".jsonl") else ".jsonl"

    @property
    def separator(self) -> str | None:
        """Separator of the values of a CSV or TSV file."""
        return self._table.separator

    @property
    def is_parquet(self) -> bool:
        """Whether the rows are those of a Parquet file, and not labels by their names."""
        return (
            ending_of(self.path) == ".parquet" and self._table.form == "Parquet" and self._plain.tool is None
        )

    def groups(self, group_by: str | None, seed: int) -> np.ndarray:
        """Returns a digest of each row's group, (rows,) S16."""
        import numpy as np

        digests = bytearray()
        for row in self:
            digests += hashlib.sha256(f"{seed} {self.common(row, group_by)}".encode()).digest()[:_DIGEST]
        return np.frombuffer(digests, f"S{_DIGEST}")

    def common(self, row: Row, group_by: str | None) -> str:
        """Returns the key of a row's group; rows with equal keys go to the same subset."""
        columns = [one for one in self._texts if row.get(one) is not None]
        if group_by is not None:
            columns = [group_by] if row.get(group_by) is not None else []
        return json.dumps({column: row[column] for column in columns} or row, default=str, sort_keys=True)


def _labels(read: LabelledText) -> Sequence[tuple[str, ...]]:
    """Returns the labels of each row; numbers are written out."""
    found = Collector(LABELS)
    for label in read.labels:
        if isinstance(label, tuple):
            found.add(label)
        else:
            found.add(() if label is None else (label if isinstance(label, str) else repr(label),))
    return found.done()


def _parts(labels: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Replaces numbers with quantile bins of about the same size."""
    import numpy as np

    values = np.fromiter((float(one[0]) if one else np.nan for one in labels), float, len(labels))
    there = ~np.isnan(values)
    edges = np.unique(np.quantile(values[there], np.linspace(0, 1, _PARTS + 1)[1:-1]))
    names: list[tuple[str, ...]] = [(f"{part:02}",) for part in range(_PARTS)]
    parts = np.searchsorted(edges, values)
    return [names[part] if known else () for part, known in zip(parts, there, strict=True)]


def _assign(
    digests: np.ndarray,
    labels: Sequence[tuple[str, ...]],
    wanted: dict[str, float],
    source: _Source,
    group_by: str | None,
) -> np.ndarray:
    """Assigns the number of a subset to every row, (rows,) int8.

    A group counts towards its rarest label. The groups of a label are visited in the order of their
    digests, which is random but reproducible. The first group goes to training, each other one to
    the subset that lacks most rows.
    """
    import numpy as np

    _, groups, sizes = np.unique(digests, return_inverse=True, return_counts=True)
    counts = Counter(label for one in labels for label in one)
    ranks = {
        label: rank for rank, label in enumerate(sorted(counts, key=lambda label: (counts[label], label)))
    }
    rarest = np.full(len(sizes), len(ranks))
    own = (min((ranks[label] for label in one), default=len(ranks)) for one in labels)
    np.minimum.at(rarest, groups, np.fromiter(own, np.int64, len(labels)))
    # Groups without a label come first.
    rarest = (rarest + 1) % (len(ranks) + 1)
    totals = np.bincount(rarest, weights=sizes)
    sides = np.zeros(len(sizes), np.int8)
    # A deficit left by rounding carries over to the next label.
    lacking = np.zeros(len(wanted))
    for stratum, members in groupby(np.argsort(rarest, kind="stable"), rarest.__getitem__):
        lacking += np.fromiter(wanted.values(), float) * totals[stratum]
        for number, group in enumerate(members):
            sides[group] = lacking.argmax() if number else 0
            lacking[sides[group]] -= sizes[group]
    # A label that only occurs with rarer labels may still be missing from the training subset.
    taught = {label for one, group in zip(labels, groups, strict=True) if sides[group] == 0 for label in one}
    if untaught := counts.keys() - taught:
        sides[_smallest(untaught, labels, groups, sizes, source, group_by)] = 0
    return sides[groups]


def _smallest(
    untaught: set[str],
    labels: Sequence[tuple[str, ...]],
    groups: np.ndarray,
    sizes: np.ndarray,
    source: _Source,
    group_by: str | None,
) -> list[int]:
    """Finds the smallest group of each label that is missing from training; the key breaks ties."""
    least: dict[str, tuple[int, str, int]] = {}
    # A file that changes while it is read is detected when it is written.
    for one, group, row in zip(labels, groups, source, strict=False):
        for label in untaught.intersection(one):
            found = (int(sizes[group]), source.common(row, group_by), int(group))
            least[label] = min(found, least.get(label, found))
    return [group for _, _, group in least.values()]


def _counts(
    labels: Sequence[tuple[str, ...]], sides: np.ndarray, names: list[str]
) -> dict[str, dict[str, int]]:
    counts: list[Counter[str]] = [Counter() for _ in names]
    for one, side in zip(labels, sides, strict=True):
        counts[side].update(one)
    known = sorted(set().union(*counts))
    return {label: {name: own[label] for name, own in zip(names, counts, strict=True)} for label in known}


def _write(source: _Source, files: list[Path], sides: np.ndarray, escape_formulas: bool) -> None:
    """Reads the rows again and writes each to the file of its subset."""
    import polars as pl

    batches: Iterable[Any] = batched(source, _CHUNK)
    if source.is_parquet:
        # Python lacks some of the column types of Parquet.
        batches = pl.scan_parquet(source.path, glob=False).collect_batches(
            chunk_size=_CHUNK, maintain_order=True
        )
    start = 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                open_table(
                    file,
                    source.ending,
                    bom=has_bom(source.path),
                    separator=source.separator,
                    escape_formulas=escape_formulas,
                )
            )
            for file in files
        ]
        for batch in batches:
            own = sides[start : start + len(batch)]
            start += len(batch)
            if len(own) < len(batch):
                break
            for number, write in enumerate(writers):
                chosen = (own == number).nonzero()[0]
                if len(chosen):
                    write(
                        batch[chosen] if isinstance(batch, pl.DataFrame) else [batch[row] for row in chosen]
                    )
        if start != len(sides):
            raise DataError(f"{source.path} changed while it was being read; split it again.")
