"""Mutations of Parquet and Arrow files: valid ones with columns of other types, and damaged ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.mutations import Mutation, raw


def parquet(random: Random, content: bytes) -> bytes:
    """Writes a Parquet file with a changed column."""
    return _changed(random, content, "read_parquet", "write_parquet")


def arrow(random: Random, content: bytes) -> bytes:
    """Writes an Arrow stream with a changed column."""
    return _changed(random, content, "read_ipc_stream", "write_ipc_stream")


def _changed(random: Random, content: bytes, read: str, write: str) -> bytes:
    import polars

    try:
        frame = getattr(polars, read)(io.BytesIO(content))
        name = random.choice(frame.columns)
        frame = random.choice(_CHANGES)(random, frame, name)
        target = io.BytesIO()
        getattr(frame, write)(target)
    except BaseException as error:  # Polars panics with a class of its own
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return raw.flip(random, content)
    return target.getvalue()


def _typed(random: Random, frame: Any, name: str) -> Any:
    import polars as pl

    count = len(frame)
    new = random.choice(
        (
            lambda: pl.Series(name, [None] * count),
            lambda: pl.Series(name, [[]] * count),
            lambda: pl.Series(name, [{"a": 1, "b": [None]}] * count),
            lambda: pl.Series(name, [b"\xff\x00"] * count),
            lambda: pl.Series(name, [float("nan")] * count),
            lambda: pl.Series(name, [float("inf")] * count),
            lambda: pl.Series(name, [2**63 - 1] * count),
            lambda: pl.Series(name, ["a"] * count, pl.Categorical),
            lambda: pl.Series(name, [0] * count).cast(pl.Datetime("ns")),
            lambda: pl.Series(name, [-(2**62)] * count).cast(pl.Datetime("us")),
            lambda: pl.Series(name, [0] * count).cast(pl.Time),
            lambda: pl.Series(name, [1] * count).cast(pl.Decimal(38, 0)),
            lambda: pl.Series(name, [True] * count),
            lambda: pl.Series(name, [[["a"], None]] * count),
        )
    )()
    return frame.with_columns(new)


def _named(random: Random, frame: Any, name: str) -> Any:
    return frame.rename({name: random.choice(("", "x", "\0", "label", "text", "\x1b[2J", "é" * 1000))})


def _columns(random: Random, frame: Any, name: str) -> Any:
    import polars as pl

    wide = {f"c{number}": pl.lit(number) for number in range(2000)}
    return random.choice(
        (frame.drop(name), frame[:0], frame[:1], frame.select(name), frame.with_columns(**wide))
    )


def _nulls(random: Random, frame: Any, name: str) -> Any:
    import polars as pl

    keep = random.randrange(max(1, len(frame)))
    return frame.with_columns(pl.when(pl.int_range(pl.len()) == keep).then(pl.col(name)).alias(name))


_Change = Callable[[Random, Any, str], Any]
_CHANGES: tuple[_Change, ...] = (_typed, _typed, _typed, _named, _columns, _nulls)

PARQUET: tuple[Mutation, ...] = (parquet, parquet, *raw.MUTATIONS)
ARROW: tuple[Mutation, ...] = (arrow, arrow, *raw.MUTATIONS)
