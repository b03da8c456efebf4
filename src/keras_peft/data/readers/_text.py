"""UTF-8 and gzip handling for the text formats."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from keras_peft.data.readers._limits import HEAVIEST_BATCH, Unpacking
from keras_peft.errors import DataError

_GZIP = b"\x1f\x8b"


def open_text(path: Path, *, newline: str | None = None) -> io.TextIOWrapper:
    """Opens a file that passed `check_text`, without its byte order mark.

    Args:
        path: The file.
        newline: None if all line ends become "\\n"; "" to keep them.
    """
    return io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline=newline)


def check_text(path: Path) -> None:
    """Checks, in little memory, that a file is complete and valid UTF-8.

    Raises:
        DataError: If it is not, or is empty.
    """
    with _open(path) as file:
        try:
            _check_utf8(path, file)
        except EOFError:
            raise DataError(
                f"{path} is truncated: its gzip data ends early. Copy or download it again."
            ) from None
        except (gzip.BadGzipFile, zlib.error):
            raise DataError(
                f"{path} is not valid gzip; copy or download it again, or remove .gz from its name if it is "
                "not compressed."
            ) from None


def in_chunks(rows: Iterable[dict[str, Any]], chunk: int) -> Iterator[list[dict[str, Any]]]:
    """Groups rows into lists; every row gets at least the columns of the first row.

    A list with long texts has fewer rows.
    """
    columns: dict[str, None] | None = None
    gathered: list[dict[str, Any]] = []
    weight = 0
    for row in rows:
        columns = dict.fromkeys(row) if columns is None else columns
        gathered.append(columns | row)
        weight += sum(len(value) for value in row.values() if isinstance(value, str | list))
        if len(gathered) == chunk or weight > HEAVIEST_BATCH:
            yield gathered
            gathered, weight = [], 0
    if gathered:
        yield gathered


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast("BinaryIO", _Gzip(path))
    return path.open("rb")


class _Gzip(gzip.GzipFile):
    """A gzip file that refuses to expand without end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._unpacking = Unpacking(path, path.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        return self._counted(super().read1(size))

    def _counted(self, data: bytes) -> bytes:
        self._unpacking.add(len(data))
        return data


def _check_utf8(path: Path, file: BinaryIO) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    data = file.read(1 << 20)
    if not data:
        raise DataError(f"{path} is empty; expected rows of labelled text.")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16; save it as UTF-8.")
    if data.startswith(_GZIP):
        if path.suffix.lower() == ".gz":
            raise DataError(f"{path} is compressed twice; decompress it once.")
        raise DataError(f"{path} is compressed with gzip; rename it to {path.name}.gz.")
    lines = 1
    while True:
        try:
            decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = lines + error.object[: error.start].count(b"\n")
            byte = error.object[error.start]
            raise DataError(
                f"{path} is not UTF-8: byte 0x{byte:02x} in line {line}; save it as UTF-8: in Excel as "
                f"'CSV UTF-8', or from a Western encoding with iconv -f WINDOWS-1252 -t UTF-8."
            ) from None
        if not data:
            return
        lines += data.count(b"\n")
        data = file.read(1 << 20)
