"""Writes rows to tables that `readers/` can read."""

from __future__ import annotations

import gzip
import json
import os
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

from keras_peft.data.formulas import protected
from keras_peft.data.readers import Row
from keras_peft.inputs.strings import is_unicode


def open_table(
    file: Path,
    ending: str,
    *,
    piece: int = 32 << 20,
    bom: bool = False,
    separator: str | None = None,
    escape_formulas: bool = True,
) -> AbstractContextManager[Callable[[Any], None]]:
    """Opens a file for rows; it is complete when the context ends.

    Args:
        file: The file to write.
        ending: File extension of the format: `".parquet"`, or a text format with or without `.gz`.
        separator: The character between the values of a CSV or TSV file; a comma or a tab by default.
        bom: Whether a CSV or TSV file begins with a byte order mark, by which Excel recognises UTF-8.
        escape_formulas: Whether cells of a CSV or TSV file that a spreadsheet would run get an apostrophe.
        piece: Approximate bytes of a Parquet file kept in memory before they are set aside on disk.

    Returns:
        A context manager for a function that writes a list of rows; for Parquet, also a Polars
        data frame.

    Raises:
        OSError: If the file cannot be written.

    Example:
        >>> with open_table(Path("part.jsonl"), ".jsonl") as write:
        ...     write([{"text": "It is fast.", "label": "opinion"}])
    """
    return (
        _parquet(file, piece)
        if ending == ".parquet"
        else _text(file, ending, bom, separator, escape_formulas)
    )


@contextmanager
def _parquet(file: Path, piece: int) -> Iterator[Callable[[Any], None]]:
    """Yields a function that writes data frames or lists of rows to a Parquet file.

    The type of a column is known only once all rows have arrived. Until then they are stored in
    pieces next to the file.
    """
    import polars as pl

    frames: list[pl.DataFrame] = []
    pieces: list[pl.LazyFrame] = []

    def write(rows: Any) -> None:
        frames.append(pl.DataFrame(rows, infer_schema_length=None))
        if sum(frame.estimated_size() for frame in frames) >= piece:
            set_aside()

    def set_aside() -> None:
        path = Path(folder) / f"{len(pieces)}.parquet"
        with _faults_of_the_disk():
            pl.concat(frames, how="diagonal_relaxed").write_parquet(path)
        pieces.append(pl.scan_parquet(path, glob=False))
        frames.clear()

    with TemporaryDirectory(dir=file.parent) as folder:
        yield write
        if frames:
            set_aside()
        with _faults_of_the_disk():
            pl.concat(pieces, how="diagonal_relaxed").sink_parquet(file)


@contextmanager
def _faults_of_the_disk() -> Iterator[None]:
    """Converts Polars errors from the operating system, such as a full disk, to OSError."""
    import polars as pl

    try:
        yield
    except pl.exceptions.ComputeError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from None


@contextmanager
def _text(
    file: Path, ending: str, bom: bool, separator: str | None, escape: bool
) -> Iterator[Callable[[list[Row]], None]]:
    """Yields a function that writes lists of rows to a text file."""
    plain = ending.removesuffix(".gz")
    first = True

    def write(rows: list[Row]) -> None:
        nonlocal first
        if escape and plain in (".csv", ".tsv"):
            rows = [{protected(name): protected(value) for name, value in row.items()} for row in rows]
        opened.write(_as_text(rows, plain, separator, first=first).encode())
        first = False

    with file.open("wb") as raw, ExitStack() as stack:
        opened: IO[bytes] = raw
        if ending.endswith(".gz"):
            # Without a timestamp, so that the same split gives identical files.
            packed = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
            opened = cast("IO[bytes]", packed)
        if bom and plain in (".csv", ".tsv"):
            opened.write(BOM_UTF8)
        yield write
        if plain == ".json":
            opened.write(b"\n]\n")


def _as_text(rows: list[Row], ending: str, separator: str | None, *, first: bool) -> str:
    import polars as pl

    if ending in (".csv", ".tsv"):
        frame = pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))
        return frame.write_csv(
            separator=separator or ("\t" if ending == ".tsv" else ","), include_header=first
        )
    lines = map(_as_json, rows)
    if ending == ".json":
        return ("[\n" if first else ",\n") + ",\n".join(lines)
    return "".join(f"{line}\n" for line in lines)


def _as_json(row: Row) -> str:
    text = json.dumps(row, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(row)
