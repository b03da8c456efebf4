"""Rows and errors of the formats that Polars reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.data.readers._limits import HEAVIEST_BATCH, Unpacking, too_long
from keras_peft.errors import DataError, KerasPeftError
from keras_peft.extras import need

if TYPE_CHECKING:
    import polars as pl


# A file stores equal values once, so a row may take less than a bit.
_ROWS_PER_BYTE, _LEAST_ROWS = 1000, 1 << 20


def rows_of(path: Path, chunk: int) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of a Parquet file in batches.

    Args:
        path: The file.
        chunk: Approximate number of rows per batch.

    Raises:
        DataError: If the file has more rows than its size allows, or a row is too long.
    """
    import polars as pl

    frame = pl.scan_parquet(path, glob=False)
    count = int(frame.select(pl.len()).collect().item())
    if count > max(_LEAST_ROWS, _ROWS_PER_BYTE * path.stat().st_size):
        raise DataError(
            f"{path} has {count:,} rows in {path.stat().st_size:,} bytes, so they cannot be different texts; write it "
            "again without the repeated rows."
        )
    unpacking = Unpacking(path, path.stat().st_size)
    for batch in frame.collect_batches(chunk_size=chunk, maintain_order=True):
        unpacking.add(int(batch.estimated_size()))
        yield from dicts_of(batch, path)


def dicts_of(frame: pl.DataFrame, path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of a frame; several lists if the texts are long, because a frame shares equal ones.

    Args:
        frame: The frame.
        path: The file, for messages.

    Raises:
        DataError: If a row is too long.
    """
    size = frame.estimated_size()
    if size <= HEAVIEST_BATCH:
        yield frame.to_dicts()
    elif len(frame) > 1:
        half = len(frame) // 2
        yield from dicts_of(frame[:half], path)
        yield from dicts_of(frame[half:], path)
    else:
        raise too_long(str(path))


@contextmanager
def faults_of(path: Path, name: str) -> Iterator[None]:
    """Converts errors from Polars to a DataError with a one-sentence message.

    Args:
        path: The file that is read in the context.
        name: Name of the format, for messages.

    Raises:
        DataError: If Polars raises an error.
    """
    need(f"Reading {name}", "polars")
    import polars as pl  # imported late: it takes longer than most commands that read no table

    try:
        yield
    except KerasPeftError:
        raise
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty; expected a header and rows of labelled text.") from None
    # Polars panics when a damaged file violates its assumptions. ValueError and OverflowError come from
    # values that Python cannot represent, such as a date in the year 20000.
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        OSError,
        ValueError,
        OverflowError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from None
        raise DataError(
            f"{path} is not a valid {name} file: it is damaged, incomplete or something else. Write it again, or copy "
            "or download it again."
        ) from error
