"""The files of an input, and their rows that have a text."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keras_peft.data.columns import check_column
from keras_peft.data.plain_rows import PlainRows
from keras_peft.data.readers import FORMATS, Row, ending_of
from keras_peft.data.tables import open_data
from keras_peft.errors import DataError, OptionError, listed
from keras_peft.files import sha256_of
from keras_peft.inputs.cells import text_of
from keras_peft.inputs.input import Input
from keras_peft.sharding import addresses

_PATTERN = "*?["
# What tools write next to their data, such as _SUCCESS.
_HIDDEN = (".", "_")
_READABLE = (*FORMATS, ".zip")

NumberedRow = tuple[int, Row]
"""The number of a row in its file, from 1, and the row."""


@dataclass(frozen=True)
class Source:
    """A file of an input, or a folder that is read as one table.

    Args:
        address: Its path or address.
        name: Its name without the folders that all files of the input are in.
    """

    address: str
    name: str

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yields its path on this machine; errors in the context name its address instead."""
        with addresses.local_copy(self.address) as path:
            try:
                yield path
            except DataError as error:
                if not addresses.is_remote(self.address):
                    raise
                raise DataError(str(error).replace(str(path), self.address)) from error


@dataclass(frozen=True)
class Reading:
    """How the rows of all files are read.

    Args:
        columns: The columns with the texts.
        input: What a row is.
        skips: Whether rows without text are left out.
        separator: The character between the values of a CSV or TSV file; detected if None.
    """

    columns: tuple[str, ...]
    input: Input
    skips: bool
    separator: str | None

    def rows(self, path: Path, name: str) -> Iterator[NumberedRow]:
        """Yields the rows that have a text, with their numbers.

        Args:
            path: The file.
            name: Its name, for messages.

        Raises:
            DataError: If the file cannot be read, lacks a column, or a row has no text.
        """
        plain = PlainRows(open_data(path, separator=self.separator))
        for column in self.columns if plain.first else ():
            check_column(plain.first[0], column, name, "text_column")
        for number, row in plain:
            if self._has_text(row):
                yield number, row
            elif not self.skips:
                raise DataError(
                    f"{name}: row {number} has no text (rows are counted from 1); fix it, or skip such rows with "
                    "`skip_bad_rows=True`."
                )

    def _has_text(self, row: Row) -> bool:
        values = [row.get(column) for column in self.columns]
        if not all(text_of(value) or (isinstance(value, list) and value) for value in values):
            return False
        return self.input.read_given(self.input.read(values)) is not None


def sources_of(given: str | Path | Sequence[str | Path]) -> list[Source]:
    """Lists the files of an input, in order.

    Args:
        given: A file, a folder, a pattern, the address of one that fsspec reads, or a list of them.

    Raises:
        DataError: If nothing matches, or a folder has no files that can be read.

    Example:
        >>> [source.name for source in sources_of("rows/*.parquet")]
        ['0.parquet', '1.parquet']
    """
    every = [given] if isinstance(given, str | Path) else list(given)
    found = [address for one in every for address in _addresses_of(str(one))]
    if not found:
        raise OptionError("`input` is empty; expected a file, a folder, a pattern, or a list of them.")
    if twice := [address for address, count in Counter(found).items() if count > 1]:
        raise OptionError(f"`input` names {listed(twice)} more than once; expected each file once.")
    steps = [address.replace(os.sep, "/").rstrip("/").split("/") for address in found]
    shared = 0
    while all(len(one) > shared + 1 and one[shared] == steps[0][shared] for one in steps):
        shared += 1
    return [Source(address, "/".join(own[shared:])) for address, own in zip(found, steps, strict=True)]


def _addresses_of(address: str) -> list[str]:
    path = addresses.local_path(address)
    is_remote = addresses.is_remote(address)
    if any(one in address for one in _PATTERN) and (is_remote or not path.exists()):
        found = addresses.matching(address)
        if not found:
            raise DataError(f"{address} matches no file; expected a file, a folder or a pattern.")
        return found
    if is_remote:
        inside = addresses.listed_in(address)
        return [address] if inside is None else _data_of(address, inside)
    if path.is_dir() and (inside := sorted(str(one) for one in path.iterdir() if one.is_file())):
        data = [one for one in inside if ending_of(Path(one)) in _READABLE]
        # A folder of Hugging Face Datasets is one table, and so is one with a folder for each label.
        if data and not any(one.endswith(".arrow") for one in data):
            return _data_of(address, inside)
    return [str(path)]


def _data_of(folder: str, files: Sequence[str]) -> list[str]:
    """Returns the files in a folder that can be read."""
    known = [
        one for one in files if ending_of(Path(one)) in _READABLE and not Path(one).name.startswith(_HIDDEN)
    ]
    if not known:
        raise DataError(f"{folder} has no file that can be read; expected {listed(_READABLE, most=20)}.")
    return known


def sha256_of_source(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the names and contents of all files in a folder.

    Args:
        path: The file or folder.

    Raises:
        DataError: If it does not exist or cannot be read.
    """
    try:
        if not path.is_dir():
            return sha256_of(path)
        digest = hashlib.sha256()
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
        return digest.hexdigest()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected a file, a folder or a pattern.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
