"""Reads Arrow streams, the format that Hugging Face Datasets writes.

Polars can only read a whole stream at once. A stream is a sequence of messages, each preceded by
its length: a schema, optional dictionaries, then record batches. Polars therefore receives a few
batches at a time, preceded by the schema.
https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from keras_peft.data.readers._frames import faults_of
from keras_peft.data.readers._table import Row, Table
from keras_peft.errors import DataError

COMPRESSED = False
_FEATHER = b"ARROW1"
_CONTINUES = b"\xff\xff\xff\xff"
_BATCH = 3
_ENOUGH = 1 << 20


def table(path: Path, separator: str | None) -> Table:
    """Opens a file."""
    return Table(str(path), "Arrow", lambda chunk: read(path, chunk))


def read(path: Path, chunk: int) -> Iterator[list[Row]]:
    """Yields the rows with their values unconverted."""
    with faults_of(path, "Arrow"), path.open("rb") as file:
        import polars as pl

        if file.read(len(_FEATHER)) == _FEATHER:
            raise DataError(
                f"{path} is Feather, not the Arrow stream format of Hugging Face's datasets; save it as Parquet."
            )
        file.seek(0)
        for stream in _streams(file, path):
            for part in pl.read_ipc_stream(io.BytesIO(stream)).iter_slices(chunk):
                yield part.to_dicts()


def _streams(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Splits a stream into short ones, each with the schema and about one megabyte of batches."""
    begin: list[bytes] = []  # The schema and the dictionaries.
    batches: list[bytes] = []
    size = 0
    for kind, message in _messages(file, path):
        if kind != _BATCH:
            if batches:
                yield b"".join([*begin, *batches])
                batches, size = [], 0
            begin.append(message)
            continue
        batches.append(message)
        size += len(message)
        if size >= _ENOUGH:
            yield b"".join([*begin, *batches])
            batches, size = [], 0
    # A stream without batches is also yielded, so that errors in the schema are reported.
    if batches or not size:
        yield b"".join([*begin, *batches])


def _messages(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the messages with their kinds; a message's kind and body length are in a flatbuffer table."""
    left = path.stat().st_size
    while start := file.read(4):
        # Before Arrow 0.15, no marker preceded the length.
        start += file.read(4) if start == _CONTINUES else b""
        if len(start) % 4:
            raise _cut(path)
        (length,) = struct.unpack("<i", start[-4:])
        if length == 0:
            return
        left -= len(start)
        if not 0 < length <= left:
            raise _cut(path)
        described = file.read(length)
        try:
            kind, body = _describe(described)
        except struct.error:
            raise DataError(
                f"{path} is not a valid Arrow file: one of its messages cannot be read. Write it again."
            ) from None
        left -= length
        if not 0 <= body <= left:
            raise _cut(path)
        left -= body
        yield kind, start + described + file.read(body)


def _describe(message: bytes) -> tuple[int, int]:
    """Reads the kind of a message and the length of its body."""

    def field(number: int, form: str) -> int:
        place = struct.unpack_from("<H", message, fields + 4 + 2 * number)[0] if 4 + 2 * number < size else 0
        return int(struct.unpack_from(form, message, table + place)[0]) if place else 0

    (table,) = struct.unpack_from("<I", message)
    fields = table - struct.unpack_from("<i", message, table)[0]
    if fields < 0:
        raise struct.error("the table's fields start before the message")
    (size,) = struct.unpack_from("<H", message, fields)
    return field(1, "<B"), field(3, "<q")


def _cut(path: Path) -> DataError:
    return DataError(
        f"{path} is truncated or is not an Arrow file; write it again, or copy or download it again."
    )
