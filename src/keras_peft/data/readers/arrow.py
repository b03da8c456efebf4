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

from keras_peft.data.readers._frames import dicts_of, faults_of
from keras_peft.data.readers._limits import Unpacking
from keras_peft.data.readers._table import Row, Table
from keras_peft.errors import DataError

COMPRESSED = False
_FEATHER = b"ARROW1"
_CONTINUES = b"\xff\xff\xff\xff"
_DICTIONARY, _BATCH = 2, 3
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
                yield from dicts_of(part, path)


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
            head = _Table.first(described)
            kind, body = head.number(1, "<B"), head.number(3, "<q")
            if 0 <= body <= left - length:
                _check_batch(head, kind, path, file, body)
        except struct.error:
            raise DataError(
                f"{path} is not a valid Arrow file: one of its messages cannot be read. Write it again."
            ) from None
        left -= length
        if not 0 <= body <= left:
            raise _cut(path)
        left -= body
        yield kind, start + described + file.read(body)


class _Table:
    """A table of a flatbuffer.

    Args:
        data: The flatbuffer.
        at: Position of the table.

    Raises:
        struct.error: If it is not in the data.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - self._read("<i", at)
        self._size = self._read("<H", self._fields)

    @classmethod
    def first(cls, data: bytes) -> _Table:
        """Returns the table that a flatbuffer begins with."""
        return cls(data, int(struct.unpack_from("<I", data)[0]))

    def number(self, field: int, form: str) -> int:
        """Returns the number in a field, or 0 if it is missing."""
        place = self._place(field)
        return self._read(form, place) if place else 0

    def table(self, field: int) -> _Table | None:
        """Returns the table that a field refers to."""
        place = self._place(field)
        return _Table(self._data, place + self._read("<I", place)) if place else None

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """Returns a vector of structs with two numbers of 8 bytes."""
        place = self._place(field)
        if not place:
            return []
        start = place + self._read("<I", place)
        count = self._read("<I", start)
        if count > len(self._data) // 16:
            raise struct.error("a vector is longer than the message")
        return [
            (self._read("<q", start + 4 + 16 * one), self._read("<q", start + 12 + 16 * one))
            for one in range(count)
        ]

    def _place(self, field: int) -> int:
        if 4 + 2 * field >= self._size:
            return 0
        offset = self._read("<H", self._fields + 4 + 2 * field)
        return self._at + offset if offset else 0

    def _read(self, form: str, at: int) -> int:
        if at < 0:
            raise struct.error("a position is before the message")
        return int(struct.unpack_from(form, self._data, at)[0])


def _check_batch(head: _Table, kind: int, path: Path, file: BinaryIO, body: int) -> None:
    """Checks where the buffers of a batch are, and the size that it has once they are decompressed.

    Polars reserves what a buffer says. A compressed one begins with its size, and Polars does not decompress more.

    Raises:
        DataError: If a buffer is outside of the batch, or the batch is too large or has more rows than its buffers
            can hold.
    """
    batch = head.table(2) if kind in (_DICTIONARY, _BATCH) else None
    if batch is not None and kind == _DICTIONARY:
        batch = batch.table(1)
    if batch is None:
        return
    buffers = batch.pairs(2)
    if any(offset < 0 or length < 0 or offset + length > body for offset, length in buffers):
        raise DataError(f"{path} has batches whose values are outside of them; write it again.")
    size = body
    if batch.table(3) is not None:
        unpacking = Unpacking(path, path.stat().st_size)
        start = file.tell()
        for offset, length in buffers:
            if length < 8:
                continue
            file.seek(start + offset)
            (unpacked,) = struct.unpack("<q", file.read(8))
            unpacking.add(max(unpacked, length))  # -1 if it is not compressed
            size += max(unpacked, 0)
        file.seek(start)
    # A row takes a bit at least.
    if max([batch.number(0, "<q"), *(rows for rows, _ in batch.pairs(1))]) > 8 * size + 8:
        raise DataError(f"{path} has batches with more rows than values; write it again.")


def _cut(path: Path) -> DataError:
    return DataError(
        f"{path} is truncated or is not an Arrow file; write it again, or copy or download it again."
    )
