"""ZIP archives that contain one table."""

from __future__ import annotations

import shutil
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import IO
from zipfile import BadZipFile, ZipFile, ZipInfo

from keras_peft.data.readers._formats import FORMATS, ending_of
from keras_peft.data.readers._limits import Unpacking
from keras_peft.data.readers._table import Row, Table
from keras_peft.data.readers._zip import open_zip
from keras_peft.errors import DataError, KerasPeftError, listed
from keras_peft.files import writing_to_cache

_BLOCK = 1 << 20
_WHAT = "the table of an archive while it is read"
# What is compressed already does not become much smaller; the reader of gzip unpacks it again.
_LEAST_GZIP, _RATIO_OF_GZIP = 1 << 20, 2


def table(path: Path, read_file: Callable[[Path], Table]) -> Table:
    """Opens the table in an archive; it is unpacked into the cache folder while it is used.

    Args:
        path: The archive.
        read_file: Function that opens an unpacked file.

    Raises:
        DataError: If the archive is damaged or protected, or contains no table or several.
    """
    unpacked = _Unpacked(path)
    with unpacked.renamed():
        inner = read_file(unpacked.file)

    def batches(chunk: int) -> Iterator[list[Row]]:
        with unpacked.renamed():
            yield from inner.batches(chunk)

    return replace(inner, name=unpacked.name, form=f"{inner.form}, in a ZIP archive", batches=batches)


class _Unpacked:
    """A file that exists as long as this object.

    Args:
        path: The archive.
    """

    def __init__(self, path: Path) -> None:
        try:
            with open_zip(path) as archive:
                chosen = _only_table(path, archive)
                self.name = f"{path}/{chosen.filename}"
                with writing_to_cache(_WHAT) as folder:
                    unpacked = Path(mkdtemp(dir=folder))
                weakref.finalize(self, shutil.rmtree, unpacked, ignore_errors=True)
                self.file = unpacked / PurePosixPath(chosen.filename).name
                _unpack(path, archive, chosen, self.file)
        except RuntimeError as error:
            raise DataError(f"{path} is protected by a password; unpack it.") from error
        except (BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
            if isinstance(error, KerasPeftError):
                raise
            raise DataError(
                f"{path} is not a valid ZIP archive; write it again, or copy or download it again."
            ) from error

    @contextmanager
    def renamed(self) -> Iterator[None]:
        """Names the archive instead of the unpacked file in errors."""
        try:
            yield
        except DataError as error:
            raise DataError(str(error).replace(str(self.file), self.name)) from error


def _unpack(path: Path, archive: ZipFile, chosen: ZipInfo, target: Path) -> None:
    """Writes a file of an archive.

    Raises:
        DataError: If it unpacks to too many bytes.
        OptionError: If the disk is full.
    """
    is_packed = chosen.filename.lower().endswith(".gz")
    most = max(_LEAST_GZIP, _RATIO_OF_GZIP * chosen.compress_size) if is_packed else None
    unpacking = Unpacking(path, path.stat().st_size, most=most)
    with archive.open(chosen) as source, target.open("wb") as file:
        while block := _read(source, path):
            unpacking.add(len(block))
            with writing_to_cache(_WHAT):
                file.write(block)


def _read(source: IO[bytes], path: Path) -> bytes:
    """Reads a block of a file in an archive.

    Raises:
        DataError: If the archive is damaged.
    """
    try:
        return source.read(_BLOCK)
    except (zlib.error, EOFError) as error:
        raise DataError(f"{path} is a damaged archive ({error}); copy it again.") from None


def _only_table(path: Path, archive: ZipFile) -> ZipInfo:
    files = [
        one
        for one in archive.infolist()
        if not one.filename.endswith("/")  # `is_dir` fails for an empty name.
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(one.filename).parts)
    ]
    tables = [one for one in files if ending_of(Path(one.filename)) in FORMATS]
    if not tables:
        inside = listed((one.filename for one in files), most=5) or "nothing"
        raise DataError(f"{path} contains no table ({', '.join(FORMATS)}); it contains {inside}.")
    if len(tables) > 1:
        raise DataError(
            f"{path} contains {len(tables)} tables: {listed((one.filename for one in tables), most=5)}; unpack it and "
            "choose one."
        )
    return tables[0]
