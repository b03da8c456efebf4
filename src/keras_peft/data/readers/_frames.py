"""Rows and errors of the formats that Polars reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import DataError
from keras_peft.extras import need

if TYPE_CHECKING:
    import polars as pl


def rows_of(frame: pl.LazyFrame, chunk: int) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of a lazy frame in batches."""
    for batch in frame.collect_batches(chunk_size=chunk, maintain_order=True):
        yield batch.to_dicts()


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
