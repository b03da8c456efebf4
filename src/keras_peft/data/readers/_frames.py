"""What the formats that Polars reads have in common: its rows and its errors."""

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
    """Collects a table batch by batch."""
    for batch in frame.collect_batches(chunk_size=chunk, maintain_order=True):
        yield batch.to_dicts()


@contextmanager
def faults_of(path: Path, name: str) -> Iterator[None]:
    """Tells what Polars says of a file in one sentence.

    Args:
        path: The file that is read in this context.
        name: What its format is called, for people.

    Raises:
        DataError: If Polars raises.
    """
    need(f"Reading {name}", "polars")
    import polars as pl  # here, for its import takes longer than most commands that read no table

    try:
        yield
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty; expected a header and rows of labelled text.") from None
    # A panic is what Polars raises where a damaged file breaks what it takes for granted. The other two come from
    # values that Python has no room for, such as a date in the year 20000.
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        OSError,
        ValueError,
        OverflowError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not a sound {name} file: {reason}") from None
