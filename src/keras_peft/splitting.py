"""A file of labelled text to a folder with a file to train on, one to validate on and one to test on."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.check.subject import are_numbers, labels_of
from keras_peft.data import check_column, is_unicode
from keras_peft.errors import DataError, OptionError
from keras_peft.files import whole_folder
from keras_peft.readers import Row, ending_of, read_rows

SIDES = ("train", "validation", "test")
# Values are put into so many parts of the same size, which are then like labels.
_PARTS = 10


@dataclass(frozen=True)
class FileSplit:
    """What `split_file` wrote.

    Attributes:
        files: The file of each side.
        rows: How many rows each has.
        labels: For each label how many rows of each side have it; without labels empty.
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
    """Splits a file into sides that have the same share of every label.

    Rows of one group, and without groups those with the same text, come on one side. A
    label with two such or more is always on the training side. Where a row goes depends
    on the seed and on what the file holds, not on the order of its rows.

    Args:
        data: A file or folder of any format that `read_rows` reads.
        out: Folder to write, with train, validation and test in the format of the
            input; Parquet where it is a folder or Arrow.
        test: Share to test on, from 0 to below 1; 0 writes no such file.
        validation: Share to validate on, likewise.
        group_by: Column whose values are not to be on two sides.
        seed: The same seed gives the same files, byte for byte.
        label_column: Column with the labels. Where there is neither it nor `labels`,
            the rows are split by chance alone.
        overwrite: Replace a split that is there.

    Returns:
        The files and what is in them.

    Raises:
        DataError: If the file cannot be read, a column is missing, or a side would be
            empty.
        OptionError: If a value cannot be used or `out` is there.

    Example:
        >>> split_file("conversations.jsonl", "parts").rows
        {'train': 168, 'validation': 24, 'test': 48}
    """
    path, out = Path(data), Path(out)
    shares = {"validation": validation, "test": test}
    _check_options(path, out, shares, overwrite)
    rows = [row for batch in read_rows(path) for row in batch]
    if not rows:
        raise DataError(f"{path} has no rows to split.")
    if group_by is not None:
        check_column(rows[0], group_by, path, "--group-by")
    labels = _labels(rows, label_column, path)
    wanted = {"train": 1 - test - validation, **{side: share for side, share in shares.items() if share}}
    strata = _parts(labels) if are_numbers(labels) else labels
    sides = _assign(_groups(rows, group_by), strata, wanted, seed)
    places = {side: [n for n in range(len(rows)) if sides[n] == side] for side in wanted}
    if empty := [side for side in wanted if not places[side]]:
        raise DataError(
            f"{path} is too small for this split: nothing is left for {' and '.join(empty)}. Add rows, take a larger "
            "share or leave it out with 0" + ("." if group_by is None else ", or group by another column.")
        )
    ending = ending_of(path) if path.is_file() and ending_of(path) != ".arrow" else ".parquet"
    try:
        with whole_folder(out, overwrite=overwrite) as staging:
            for side, chosen in places.items():
                content = _content([rows[n] for n in chosen], ending, path, chosen)
                (staging / f"{side}{ending}").write_bytes(content)
    except OSError as error:
        raise OptionError(
            f"{out} cannot be written ({error.strerror or error}); nothing was written."
        ) from None
    counts = {side: Counter(label for n in chosen for label in labels[n]) for side, chosen in places.items()}
    known = sorted({label for one in counts.values() for label in one})
    return FileSplit(
        files={side: out / f"{side}{ending}" for side in places},
        rows={side: len(chosen) for side, chosen in places.items()},
        labels={}
        if strata is not labels
        else {label: {side: counts[side][label] for side in places} for label in known},
    )


def _check_options(path: Path, out: Path, shares: dict[str, float], overwrite: bool) -> None:
    for side, share in shares.items():
        if not 0 <= share < 1:
            raise OptionError(f"--{side} {share:g}: expected a share from 0 to below 1.")
    if not 0 < sum(shares.values()) < 1:
        raise OptionError(
            f"--test {shares['test']:g} and --validation {shares['validation']:g}: expected at least one above 0, and "
            "together less than 1, so that something is left to train on."
        )
    if not out.exists():
        return
    if not overwrite:
        raise OptionError(f"{out} exists; choose another --out, or replace it with --overwrite.")
    # The folder is replaced as a whole, so that nothing may be in it that is no split.
    if not out.is_dir() or any(other.name.partition(".")[0] not in SIDES for other in out.iterdir()):
        raise OptionError(
            f"{out} is no folder of a split alone, so it is not replaced; choose another --out."
        )
    if path.resolve().is_relative_to(out.resolve()):
        raise OptionError(f"{path} lies in {out}, which would be replaced; choose another --out.")


def _labels(rows: Sequence[Row], column: str, path: Path) -> list[tuple[str, ...]]:
    if column == "label" and column not in rows[0]:
        column = "labels"
    elif column not in rows[0]:
        check_column(rows[0], column, path, "--label-column")
    return [tuple(label.strip() for label in labels_of(row.get(column)) if label.strip()) for row in rows]


def _parts(labels: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Puts values into parts of about the same size."""
    import numpy as np

    values = [float(one[0]) for one in labels if one]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _PARTS + 1)[1:-1]))
    return [(f"{np.searchsorted(edges, float(one[0])):02}",) if one else () for one in labels]


def _groups(rows: Sequence[Row], group_by: str | None) -> dict[str, list[int]]:
    """The positions of the rows that have to stay together, by what they have in common."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        columns = [one for one in ("text", "text_a", "text_b", "tokens") if row.get(one) is not None]
        if group_by is not None:
            columns = [group_by] if row.get(group_by) is not None else []
        common = {column: row[column] for column in columns} or row
        groups[json.dumps(common, default=str, sort_keys=True)].append(place)
    return groups


def _assign(
    groups: dict[str, list[int]], labels: Sequence[tuple[str, ...]], wanted: dict[str, float], seed: int
) -> list[str]:
    """Gives every row a side.

    A group counts as of its rarest label. Of each label the groups come in an order
    by chance, and each goes to the side that lacks most; the first goes to training.
    """
    counts = Counter(label for one in labels for label in one)
    strata: dict[tuple[int, str], list[str]] = defaultdict(list)
    for key, places in groups.items():
        rarest = min(((counts[label], label) for n in places for label in labels[n]), default=(0, ""))
        strata[rarest].append(key)
    sides = [""] * len(labels)
    # What rounding leaves a side short of with one label, it gets with the next.
    lacking = dict.fromkeys(wanted, 0.0)
    for _, keys in sorted(strata.items()):
        keys.sort(key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
        total = sum(len(groups[key]) for key in keys)
        for side, share in wanted.items():
            lacking[side] += share * total
        for number, key in enumerate(keys):
            side = max(lacking, key=lambda one: lacking[one]) if number else "train"
            lacking[side] -= len(groups[key])
            for place in groups[key]:
                sides[place] = side
    # A label may have come only along with rarer ones, and only elsewhere.
    taught = {label for place, side in enumerate(sides) if side == "train" for label in labels[place]}
    for label in sorted(set(counts) - taught):
        having = [places for _, places in sorted(groups.items()) if any(label in labels[n] for n in places)]
        for place in min(having, key=len):
            sides[place] = "train"
    return sides


def _content(rows: list[Row], ending: str, path: Path, places: list[int]) -> bytes:
    """Writes rows in a format, with the types that their columns have in the file."""
    import polars as pl

    buffer = io.BytesIO()
    if ending == ".parquet":
        frame = (
            pl.read_parquet(path, glob=False)[places]
            if path.is_file() and ending_of(path) == ".parquet"
            else pl.DataFrame(rows, infer_schema_length=None)
        )
        frame.write_parquet(buffer)
        return buffer.getvalue()
    plain = ending.removesuffix(".gz")
    if plain in (".csv", ".tsv"):
        frame = pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))
        frame.write_csv(buffer, separator="\t" if plain == ".tsv" else ",")
        content = buffer.getvalue()
    else:
        lines = [_as_json(row) for row in rows]
        array = ",\n".join(lines)
        text = f"[\n{array}\n]\n" if plain == ".json" else "".join(f"{line}\n" for line in lines)
        content = text.encode()
    # Without the time, so that the same split is the same file.
    return gzip.compress(content, mtime=0) if ending.endswith(".gz") else content


def _as_json(row: Row) -> str:
    text = json.dumps(row, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(row)
