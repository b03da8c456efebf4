"""Opens ZIP archives, whose list of files is read before anything else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

from keras_peft.errors import DataError

# Bytes of the list: an entry has at least 46, and Python's object for it takes ten times as many.
_LARGEST_LIST = 1 << 22
# The record at the end of an archive, and the longest comment after it; of large archives, one with 8-byte sizes.
_END, _LARGE_END = b"PK\x05\x06", b"PK\x06\x06"
_TAIL = 22 + (1 << 16) + 20 + 56


@contextmanager
def open_zip(path: Path) -> Iterator[ZipFile]:
    """Opens an archive.

    Args:
        path: The file.

    Raises:
        DataError: If it contains too many files.
        BadZipFile: If it is damaged.
    """
    if _list_size(path) > _LARGEST_LIST:
        raise DataError(
            f"{path} is an archive of too many files; expected one table in it, so unpack it yourself."
        )
    with ZipFile(path) as archive:
        yield archive


def _list_size(path: Path) -> int:
    """Returns the size of the list of files, as the end of the archive gives it."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    sizes = [0]
    for mark, form, offset in ((_END, "<L", 12), (_LARGE_END, "<Q", 40)):
        at = tail.rfind(mark)
        if at >= 0 and at + offset + 8 <= len(tail):
            sizes.append(int(struct.unpack_from(form, tail, at + offset)[0]))
    # A size of all ones stands for the one of the second record.
    return max(one for one in sizes if one != 0xFFFFFFFF)
