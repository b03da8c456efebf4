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
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.data.examples import check_column
from keras_peft.data.labels import are_numbers, labels_of
from keras_peft.data.readers import Row, ending_of, read_rows
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
    """

    files: dict[str, Path]
    rows: dict[str, int]
    labels: dict[str, dict[str, int]]

    def to_json(self) -> dict[str, Any]:
        """Returns `{"files": …, "rows": …, "labels": …}`."""
        files = {side: str(path) for side, path in self.files.items()}
        return {"files": files, "rows": self.rows, "labels": self.labels}


def split_file(
    data: str | Path,
    out: str | Path,
    *,
    test: float = 0.2,
    validation: float = 0.1,
    group_by: str | None = None,
    seed: int = 0,
    label_column: str = "label",
    overwrite: bool = False,
) -> FileSplit:
    """Splits a file into subsets with the same proportion of every label.

    Rows of the same group go to the same subset; without `group_by`, rows with the same text form a
    group. A label with at least two groups is always in the training subset. The assignment depends on
    the seed and the content of the file, not on the order of its rows.

    Args:
        data: File or folder in a format that `read_rows` supports.
        out: Folder for the `train`, `validation` and `test` files, in the format of the input;
            Parquet if the input is a folder or an Arrow file.
        test: Fraction of the rows for testing, from 0 to below 1; with 0, no such file is written.
        validation: Fraction of the rows for validation, from 0 to below 1; with 0, no such file is
            written.
        group_by: Column whose values must not occur in more than one subset.
        seed: Random seed; the same seed gives byte-identical files.
        label_column: Name of the label column. If the file has neither `label` nor `labels`, the
            rows are split at random.
        overwrite: Whether to replace an existing split.

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
    first, labels, groups = _read(path, group_by, label_column, seed)
    if group_by is not None:
        check_column(first, group_by, path, "group_by")
    if label_column != "label":
        check_column(first, label_column, path, "label_column")
    wanted = {"train": 1 - test - validation, **{side: share for side, share in shares.items() if share}}
    has_values = are_numbers(labels)
    sides = _assign(groups, _parts(labels) if has_values else labels, wanted, path, group_by)
    rows = {side: int((sides == number).sum()) for number, side in enumerate(wanted)}
    if empty := [side for side, count in rows.items() if not count]:
        raise DataError(
            f"{path} is too small for this split: nothing is left for {' and '.join(empty)}. Add rows, use a larger "
            "fraction"
            + (" or set it to 0." if group_by is None else ", set it to 0 or group by another column.")
        )
    ending = ending_of(path) if path.is_file() and ending_of(path) != ".arrow" else ".parquet"
    try:
        with whole_folder(out, overwrite=overwrite) as staging:
            _write(path, [staging / f"{side}{ending}" for side in wanted], ending, sides)
    except OSError as error:
        raise OptionError(
            f"{out} cannot be written ({error.strerror or error}); nothing was written."
        ) from None
    return FileSplit(
        files={side: out / f"{side}{ending}" for side in wanted},
        rows=rows,
        labels={} if has_values else _counts(labels, sides, list(wanted)),
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


def _read(
    path: Path, group_by: str | None, label_column: str, seed: int
) -> tuple[Row, Sequence[tuple[str, ...]], np.ndarray]:
    """Returns the first row, and for each row its labels and a digest of its group, (rows,) S16."""
    import numpy as np

    first: Row | None = None
    labels, digests = Collector(LABELS), bytearray()
    for row in _rows(path):
        if first is None:
            first, column = row, _column(row, label_column)
        labels.add(tuple(label.strip() for label in labels_of(row.get(column)) if label.strip()))
        digests += hashlib.sha256(f"{seed} {_common(row, group_by)}".encode()).digest()[:_DIGEST]
    if first is None:
        raise DataError(f"{path} has no rows to split.")
    return first, labels.done(), np.frombuffer(digests, f"S{_DIGEST}")


def _rows(path: Path) -> Iterator[Row]:
    return (row for batch in read_rows(path) for row in batch)


def _column(first: Row, column: str) -> str:
    return "labels" if column == "label" and column not in first else column


def _common(row: Row, group_by: str | None) -> str:
    """Returns the key of a row's group; rows with equal keys go to the same subset."""
    columns = [one for one in ("text", "text_a", "text_b", "tokens") if row.get(one) is not None]
    if group_by is not None:
        columns = [group_by] if row.get(group_by) is not None else []
    return json.dumps({column: row[column] for column in columns} or row, default=str, sort_keys=True)


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
    path: Path,
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
        sides[_smallest(untaught, labels, groups, sizes, path, group_by)] = 0
    return sides[groups]


def _smallest(
    untaught: set[str],
    labels: Sequence[tuple[str, ...]],
    groups: np.ndarray,
    sizes: np.ndarray,
    path: Path,
    group_by: str | None,
) -> list[int]:
    """Finds the smallest group of each label that is missing from training; the key breaks ties."""
    least: dict[str, tuple[int, str, int]] = {}
    # A file that changes while it is read is detected when it is written.
    for one, group, row in zip(labels, groups, _rows(path), strict=False):
        for label in untaught.intersection(one):
            found = (int(sizes[group]), _common(row, group_by), int(group))
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


def _write(path: Path, files: list[Path], ending: str, sides: np.ndarray) -> None:
    """Reads the rows again and writes each to the file of its subset."""
    import polars as pl

    batches: Iterable[Any] = read_rows(path, chunk=_CHUNK)
    if path.is_file() and ending == ".parquet" == ending_of(path):
        # Python lacks some of the column types of Parquet.
        batches = pl.scan_parquet(path, glob=False).collect_batches(chunk_size=_CHUNK, maintain_order=True)
    start = 0
    with ExitStack() as stack:
        writers = [stack.enter_context(open_table(file, ending)) for file in files]
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
            raise DataError(f"{path} changed while it was being read; split it again.")
